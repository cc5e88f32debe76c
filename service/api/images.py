"""Images made from a checkpoint: ordered, waited for, shown and fetched."""

from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.bodies import json_body, json_bytes, parse_model
from service.api.dependencies import Artifacts, Database, LinkMaker, Links, links_of, parts_of
from service.api.files import MEDIA_TYPES, file_content, made_content, stored_file
from service.api.heavy import in_turn
from service.api.idempotency import REUSED, IdempotencyHeader
from service.api.image_desk import Prepare, artifacts_of, cancel, failure, read
from service.api.image_replies import ImageBatchReply, image_batch_reply
from service.api.image_requests import EXAMPLES, ImagesRequest, order
from service.api.init_images import InitPicture, read_picture
from service.api.negotiation import JSON, best_accepted
from service.api.problems import NotAcceptable, invalid, responses
from service.api.stored_specs import OTHER_VERSION, spec_of
from service.api.wishes import PREFER, wish_of
from service.errors import Conflict, NotFound
from service.records import checkpoints
from service.records.database import Database as SqlDatabase
from service.records.requests import Asked
from service.records.status import OVER, RequestStatus
from service.records.tables import ImageBatch

router = APIRouter(tags=["images"])


@router.post(
    "/checkpoints/{checkpoint_id}/images",
    operation_id="createImages",
    summary="Make images from a checkpoint",
    response_model=ImageBatchReply,
    responses={
        200: {
            "description": "The images, described; with `Accept: image/png` or another type the file.",
            "content": made_content(*MEDIA_TYPES.values())[200]["content"],
        },
        202: {
            "model": ImageBatchReply,
            "description": "They take longer than the client waits.",
            "headers": {"Location": {"description": "The batch.", "schema": {"type": "string"}}},
        },
        **responses(
            400,
            404,
            406,
            413,
            415,
            s409=f"{OTHER_VERSION} {REUSED}",
            s422="The request does not fit the checkpoint.",
        ),
    },
    openapi_extra={**json_body("ImagesRequest", EXAMPLES), "parameters": [PREFER]},
)
async def create_images(
    checkpoint_id: str,
    request: Request,
    response: Response,
    idempotency: IdempotencyHeader,
) -> ImageBatchReply | Response:
    """Waits for a worker to make them, 60 s unless `Prefer` says otherwise; then 202 and a place to look."""
    parts, links, body = parts_of(request), links_of(request), await json_bytes(request)
    wish = wish_of(request, default=parts.settings.wait_seconds)
    asked, wants_picture = _negotiated(parse_model(ImagesRequest, body), request.headers.get("accept", ""))
    prepare = await _order(checkpoint_id, asked, parts.database)
    headers = {} if wish.applied is None else {"Preference-Applied": wish.applied}
    show = partial(_picture, request, parts.artifacts, links, headers) if wants_picture else None
    batch, shown = await parts.images.make(
        request,
        prepare,
        idempotency.of(body),
        wish.wait_seconds,
        show if parts.artifacts.is_local else None,
    )
    if batch.status in (RequestStatus.FAILED, RequestStatus.CANCELLED):
        raise failure(batch)
    if batch.status == RequestStatus.SUCCEEDED and show is not None:
        return await run_in_threadpool(show, batch) if shown is None else shown
    reply = _reply(batch, links)
    if batch.status != RequestStatus.SUCCEEDED:
        response.status_code = 202
        headers["Location"] = reply.urls["self"]
    response.headers.update(headers)
    return reply


@router.get(
    "/images/{image_id}", operation_id="getImages", summary="Get a batch of images", responses=responses(404)
)
def get_images(image_id: str, database: Database, links: Links) -> ImageBatchReply:
    return _reply(read(database, image_id), links)


@router.post(
    "/images/{image_id}/cancel",
    operation_id="cancelImages",
    summary="Cancel images that are not made yet",
    responses=responses(404, s409="The images are made, or could not be."),
)
def cancel_images(image_id: str, database: Database, links: Links) -> ImageBatchReply:
    """A worker that makes them stops within seconds. A client that hangs up while it waits does the same."""
    return _reply(cancel(database, image_id), links)


@router.get(
    "/images/{image_id}/{file}",
    operation_id="downloadImage",
    summary="Get one picture of a batch",
    response_class=Response,
    responses={
        **file_content(*MEDIA_TYPES.values()),
        **responses(404, s409="The images are not made yet, or could not be."),
    },
)
def download_image(
    image_id: str, file: str, request: Request, database: Database, artifacts: Artifacts
) -> Response:
    """`0.png` is the first image and `grid.png` all of them; the end of the name is the batch's `format`.

    `images.npz` is the only file in that format, `animation.webp` or `.gif` one more of an interpolation.
    """
    batch = read(database, image_id)
    if batch.status != RequestStatus.SUCCEEDED:
        over = "Ask for them again; with the same seeds they are the same."
        raise Conflict(
            "images_not_ready",
            f"The images {image_id!r} are {batch.status.value}.",
            hint=over
            if batch.status in OVER
            else f"Read GET /v1/images/{image_id} until its status is succeeded.",
        )
    keys = {key.rpartition("/")[2]: key for key in artifacts_of(batch)}
    if file not in keys:
        raise NotFound(
            "image_not_found",
            f"The batch {image_id!r} has no picture {file!r}.",
            hint=f"GET /v1/images/{image_id} lists them.",
            param="file",
        )
    return stored_file(request, artifacts, keys[file], _media_type(keys[file]))


def _negotiated(asked: ImagesRequest, accept: str) -> tuple[ImagesRequest, bool]:
    """The request in the format that the client accepts, and whether it wants the picture itself."""
    preferred = MEDIA_TYPES[asked.format if asked.animation is None else asked.animation.format]
    others = [MEDIA_TYPES[name] for name in ("png", "jpeg", "webp", "npz") if asked.animation is None]
    offered = [JSON, preferred, *(kind for kind in others if kind != preferred)]
    chosen = best_accepted(accept, offered)
    if chosen is None:
        raise NotAcceptable(
            "not_acceptable",
            f"None of what you accept ({accept}) can be made.",
            hint=f"Accept one of {', '.join(offered)}.",
        )
    if chosen == JSON or asked.animation is not None:
        return asked, chosen != JSON
    if chosen != preferred and "format" in asked.model_fields_set:
        raise invalid(
            {"format": f"is {asked.format}, but the Accept header asks for {chosen}; leave one out"}
        )
    name = next(name for name, kind in MEDIA_TYPES.items() if kind == chosen)
    return asked.model_copy(update={"format": name}), True


async def _order(checkpoint_id: str, asked: ImagesRequest, database: SqlDatabase) -> Prepare:
    def prepare(session: Session, init: InitPicture | None = None) -> Asked:
        trained = checkpoints.trained(session, checkpoint_id)
        return Asked(trained.id, order(asked, spec_of(trained), init))

    def refuse_what_is_wrong_without_the_picture() -> None:
        with database.read() as session:
            prepare(session)

    if asked.init_image is None:
        return prepare
    # A picture is read before the transaction, which is to be short; and only if it is of use.
    await run_in_threadpool(refuse_what_is_wrong_without_the_picture)
    return partial(prepare, init=await in_turn(read_picture, asked.init_image))


def _picture(
    request: Request, artifacts: Artifacts, links: LinkMaker, headers: dict[str, str], batch: ImageBatch
) -> Response:
    """One image, or the file of all where there is one."""
    key = artifacts_of(batch)[-1]
    headers = {**headers, "Content-Location": _url(batch, key, links)}
    return stored_file(request, artifacts, key, _media_type(key), headers=headers)


def _media_type(key: str) -> str:
    return MEDIA_TYPES[key.rpartition(".")[2]]


def _url(batch: ImageBatch, key: str, links: LinkMaker) -> str:
    return links(f"/v1/images/{batch.id}/{key.rpartition('/')[2]}")


def _reply(row: ImageBatch, links: LinkMaker) -> ImageBatchReply:
    def url(key: str | None) -> str | None:
        return None if key is None else _url(row, key, links)

    return image_batch_reply(
        row,
        url,
        {
            "self": links(f"/v1/images/{row.id}"),
            "checkpoint": links(f"/v1/checkpoints/{row.checkpoint_id}"),
        },
    )
