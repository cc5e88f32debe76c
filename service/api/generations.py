"""Images in the shape of OpenAI's API, for its clients: `client.images.generate(model=…, prompt=…)`."""

import base64
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from models.spec import JobSpec, SamplerSpec
from models.spec.fields import Seed
from service.api.bodies import JsonBytes, json_body, parse_model
from service.api.dependencies import Artifacts, Database, Images, LinkMaker, Links, ServiceSettings
from service.api.idempotency import REUSED, IdempotencyHeader
from service.api.image_desk import Prepare, cancel, failure
from service.api.image_options import MAX_IMAGES
from service.api.image_requests import Format, ImagesRequest, order
from service.api.problems import responses
from service.api.replies import CHECKPOINT, example
from service.api.stored_specs import OTHER_VERSION, facts_of, spec_of
from service.artifacts import Artifacts as ArtifactStore
from service.errors import Conflict, Invalid, NotFound, Unavailable
from service.records import checkpoints, jobs
from service.records.checkpoints import Trained
from service.records.requests import Asked
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch

router = APIRouter(tags=["images"])


class GenerationsRequest(BaseModel):
    """OpenAI's request for images, with `seed`, `guidance_scale` and `sampler` beside it (`extra_body`)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    model: str = Field(description="Id of a checkpoint, or of a job for its best one.", max_length=100)
    prompt: str = Field(
        "",
        max_length=1000,
        description="The name of a class of a conditional model, or its number; empty: any.",
    )
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = Field(None, description="How many images; 1.")
    size: str | None = Field(
        None, description="`auto`, or the model's own size, such as `32x32`: no other can be made."
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        None,
        description="`b64_json` (as if left out): the files themselves. `url`: their addresses, which need "
        "the key like every other one.",
    )
    output_format: Format | None = Field(None, description="File format of the pictures; `png`.")
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="The quality of `jpeg` and `webp` files; 100 is the best, PNG has none."
    )
    quality: Literal["auto", "standard"] | None = Field(None, description="There is one quality.")
    background: Literal["auto", "opaque"] | None = Field(None, description="All pictures are opaque.")
    moderation: Literal["auto", "low"] | None = Field(None, description="There is none.")
    partial_images: Literal[0] | None = Field(None, description="Images come when all are made.")
    stream: Literal[False] | None = Field(None, description="Images come when all are made.")
    user: str | None = Field(None, description="Not used.", max_length=1000)
    seed: Seed | None = Field(None, description="Image i is made from `seed + i`. Left out: drawn.")
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="How much the class is exaggerated, by conditional diffusion models."
    )
    sampler: SamplerSpec | None = Field(None, description="Changes to the sampler of the checkpoint's spec.")


class GeneratedImage(BaseModel):
    """One image."""

    model_config = example(b64_json="iVBORw0KGgo…", seed=7)
    b64_json: str | None = Field(None, description="The file, in base64.")
    url: str | None = Field(None, description="Its address; it needs the key.")
    seed: int = Field(description="The seed that alone makes this image again.")


class GenerationsReply(BaseModel):
    """Images, as OpenAI answers them."""

    model_config = example(
        created=1780000000,
        data=[{"b64_json": "iVBORw0KGgo…", "seed": 7}],
        output_format="png",
        size="32x32",
    )
    created: int = Field(description="Seconds since 1970.")
    data: list[GeneratedImage]
    output_format: Format
    size: str


EXAMPLES: dict[str, tuple[str, Any]] = {
    "any": ("Four images", {"model": CHECKPOINT, "prompt": "", "n": 4}),
    "class": ("A shoe, which can be made again", {"model": CHECKPOINT, "prompt": "Ankle boot", "seed": 7}),
}


@router.post(
    "/images/generations",
    operation_id="createImagesLikeOpenAI",
    summary="Make images, in OpenAI's shape",
    response_model=GenerationsReply,
    response_model_exclude_none=True,
    responses=responses(
        404,
        413,
        415,
        503,
        s400="The request does not fit the model, or a field is wrong: OpenAI's clients expect 400.",
        s409=f"The job has no checkpoint. {OTHER_VERSION} {REUSED}",
    ),
    openapi_extra=json_body("GenerationsRequest", EXAMPLES),
)
async def create_generations(
    request: Request,
    body: JsonBytes,
    database: Database,
    artifacts: Artifacts,
    desk: Images,
    settings: ServiceSettings,
    links: Links,
    idempotency: IdempotencyHeader,
) -> GenerationsReply:
    """Waits as long as the service lets anybody wait; then it is a 503, and the images are cancelled.

    With an Idempotency-Key they are made all the same, for the request that is sent again.
    """
    try:
        asked = parse_model(GenerationsRequest, body)
        named = idempotency.of(body)
        batch, _ = await desk.make(request, _order(asked), named, settings.max_wait_seconds)
    except Invalid as error:
        error.status = 400
        raise
    if batch.status not in OVER:
        if named is None:  # else the same request, sent again, waits for the same images
            await run_in_threadpool(cancel, database, batch.id)
        raise Unavailable(
            "images_timeout",
            f"The images were not made within {settings.max_wait_seconds:g} s.",
            hint="Ask for fewer, or use POST /v1/checkpoints/{id}/images, which answers 202. Does a sampling "
            "worker run?",
        )
    if batch.status != RequestStatus.SUCCEEDED:
        raise failure(batch)
    return await run_in_threadpool(_reply, batch, asked, artifacts, links)


def _order(asked: GenerationsRequest) -> Prepare:
    def prepare(session: Session) -> Asked:
        trained = _trained(session, asked.model)
        spec = spec_of(trained)
        _check_size(asked.size, spec)
        label = _label(session, asked.prompt, spec)
        wanted = ImagesRequest(
            n=asked.n,
            seed=asked.seed,
            labels=None if label is None else [label],
            guidance_scale=asked.guidance_scale,
            sampler=asked.sampler,
            format=asked.output_format or "png",
            quality=_quality(asked),
        )
        return Asked(trained.id, order(wanted, spec) | {"size": _size(spec)})

    return prepare


def _trained(session: Session, model: str) -> Trained:
    try:
        if not model.startswith("job_"):
            return checkpoints.trained(session, model)
        job = jobs.get(session, model)
    except NotFound:
        raise NotFound(
            "model_not_found",
            f"There is no model {model!r}.",
            hint="Give the id of a checkpoint, or of a job that has one: GET /v1/checkpoints lists them.",
            param="model",
        ) from None
    flagged = checkpoints.flags(session, [job.id]).get(job.id)
    if flagged is None:
        raise Conflict(
            "no_checkpoint",
            f"The job {model!r} has no checkpoint.",
            hint=f"GET /v1/jobs/{model} says whether it still makes one.",
            param="model",
        )
    return checkpoints.trained(session, flagged.best)


def _size(spec: JobSpec) -> str:
    _, height, width = spec.data.image_shape
    return f"{width}x{height}"


def _check_size(asked: str | None, spec: JobSpec) -> None:
    if asked not in (None, "auto", _size(spec)):
        raise _unfit("size", f"is {asked!r}, but this model makes {_size(spec)}: leave it out, or say auto")


def _quality(asked: GenerationsRequest) -> int | None:
    if asked.output_format in ("jpeg", "webp") and asked.output_compression is not None:
        return max(1, asked.output_compression)
    if asked.output_compression not in (None, 100):
        raise _unfit("output_compression", "holds for jpeg and webp alone: PNG files lose nothing")
    return None


def _label(session: Session, prompt: str, spec: JobSpec) -> int | None:
    """The class that a prompt names; None where it is empty."""
    wanted = prompt.strip()
    if not wanted:
        return None
    if spec.conditional is None or spec.conditional.classes is None:
        raise _unfit(
            "prompt", "this model was trained without labels and makes no chosen class; leave it empty"
        )
    facts = facts_of(session, spec.dataset)
    if facts and (named := class_named(prompt, facts.classes)) is not None:
        return named
    if wanted.isascii() and wanted.isdecimal() and int(wanted) < spec.conditional.classes:
        return int(wanted)
    known = ", ".join(facts.classes) if facts else f"0 to {spec.conditional.classes - 1}"
    raise _unfit("prompt", f"{prompt[:100]!r} is no class of this model; it has: {known[:2000]}")


def class_named(prompt: str, names: Sequence[str]) -> int | None:
    """The class of this very name, or the only one that differs in case or in the spaces around it alone."""
    for form in (str, _folded):
        if len(named := [label for label, name in enumerate(names) if form(name) == form(prompt)]) == 1:
            return named[0]
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _unfit(field: str, message: str) -> Invalid:
    return Invalid(
        "invalid_request",
        f"{field}: {message}",
        hint="GET /v1/checkpoints/{id} and the spec of its job say what the model makes.",
        param=field,
        errors=[{"path": field, "message": message}],
    )


def _reply(
    batch: ImageBatch, asked: GenerationsRequest, artifacts: ArtifactStore, links: LinkMaker
) -> GenerationsReply:
    data = []
    for image in (batch.result or {"data": []})["data"]:
        key = image["artifact"]
        if asked.response_format == "url":
            url = links(f"/v1/images/{batch.id}/{key.rpartition('/')[2]}")
            data.append(GeneratedImage(url=url, seed=image["seed"]))
        else:
            file = base64.b64encode(artifacts.read(key)).decode()
            data.append(GeneratedImage(b64_json=file, seed=image["seed"]))
    return GenerationsReply(
        created=int(batch.created_at.timestamp()),
        data=data,
        output_format=batch.request["format"],
        size=batch.request["size"],
    )
