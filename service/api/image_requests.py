"""What may be asked of a checkpoint, and the complete order that a worker is given for it."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.spec import MAX_SEED, DiffusionSpec, JobSpec, SamplerSpec, sampler_errors
from models.spec.fields import Seed
from models.spec.merge import merge
from service.api.problems import invalid

MAX_IMAGES = 1000

Label = Annotated[int, Field(ge=0)]
Format = Literal["png", "jpeg", "webp"]
Layout = Literal["separate", "grid"]


class ImagesRequest(BaseModel):
    """Which images to make. Image i depends on the checkpoint, its own seed and the sampler alone."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = Field(
        None,
        description="How many images; 1 unless `seeds` says otherwise. Many may outlast the wait: 202.",
    )
    seed: Seed | None = Field(
        None,
        description=f"Image i is made from `seed + i`, at most {MAX_SEED} (2^53 - 1). Left out: drawn.",
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_IMAGES)] | None = Field(
        None, description="One seed an image, in place of `seed`."
    )
    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_IMAGES)] | None = Field(
        None,
        description="The class of each image, or one for all, counted from 0 in the order of the dataset's "
        "`classes`. For conditional models alone. Left out: each seed's own, spread over all classes.",
    )
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="The sampler's `guidance_scale`: how much the class is exaggerated, 1 not at all. For "
        "conditional diffusion models alone.",
    )
    sampler: SamplerSpec | None = Field(
        None,
        description="Changes to the sampler of the checkpoint's own spec; another `kind` replaces it. "
        "For diffusion models alone.",
    )
    format: Format = Field("png", description="File format of the pictures.")
    layout: Layout = Field(
        "separate",
        description="`separate`: a file an image, and a grid of all where there are several. "
        "`grid`: the grid of a single image, too, which `Accept: image/png` then answers.",
    )


EXAMPLES: dict[str, tuple[str, Any]] = {
    "gan": ("Sixteen images that can be made again", {"n": 16, "seed": 1}),
    "diffusion": (
        "A diffusion model, in 20 steps",
        {"n": 4, "seed": 1, "sampler": {"kind": "ddim", "steps": 20}},
    ),
    "labels": (
        "One image of each of three classes, drawn firmly towards them",
        {"n": 3, "seed": 1, "labels": [0, 1, 2], "guidance_scale": 2.0},
    ),
    "seeds": ("Three images by their own seeds", {"seeds": [3, 14, 15], "format": "webp"}),
}


def order(asked: ImagesRequest, spec: JobSpec) -> dict[str, Any]:
    """The request with every choice written out; what does not fit the checkpoint is refused at once."""
    seeds, sampler = _seeds(asked), _sampler(asked, spec)
    return {
        "seeds": seeds,
        "labels": _labels(asked.labels, len(seeds), spec),
        "sampler": None if sampler is None else sampler.model_dump(mode="json"),
        "format": asked.format,
        "layout": asked.layout,
    }


def _labels(asked: list[int] | None, count: int, spec: JobSpec) -> list[int] | None:
    """One label an image; None: the worker takes each seed's own, if the model has labels at all."""
    if asked is None:
        return None
    if spec.conditional is None or spec.conditional.classes is None:
        raise invalid({"labels": "this model was trained without labels; leave them out"})
    if len(asked) not in (1, count):
        raise invalid({"labels": f"are {len(asked)} for {count} images; give one for each, or one for all"})
    last = spec.conditional.classes - 1
    if wrong := {
        f"labels.{i}": f"is above {last}, the last class" for i, one in enumerate(asked) if one > last
    }:
        raise invalid(wrong)
    return asked * count if len(asked) == 1 else asked


def _seeds(asked: ImagesRequest) -> list[int]:
    if asked.seeds is not None:
        if asked.seed is not None:
            raise invalid({"seeds": "give either seed or seeds"})
        if asked.n not in (None, len(asked.seeds)):
            raise invalid({"n": f"is {asked.n}, but there are {len(asked.seeds)} seeds; leave it out"})
        return asked.seeds
    n = asked.n or 1
    first = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    if first + n - 1 > MAX_SEED:
        raise invalid({"seed": f"the last image's seed would be above {MAX_SEED}; lower seed or n"})
    return list(range(first, first + n))


def _sampler(asked: ImagesRequest, spec: JobSpec) -> SamplerSpec | None:
    sampler, scale = asked.sampler, asked.guidance_scale
    if scale is not None:
        if not isinstance(spec, DiffusionSpec) or spec.conditional is None:
            raise invalid({"guidance_scale": "holds for conditional diffusion models alone; leave it out"})
        if sampler is not None and "guidance_scale" in sampler.model_fields_set:
            raise invalid({"guidance_scale": "is in sampler, too; give one of the two"})
    if isinstance(spec, DiffusionSpec):
        patch = {} if sampler is None else sampler.model_dump(mode="json", exclude_unset=True)
        patch |= {} if scale is None else {"guidance_scale": scale}
        own = {"sampler": spec.sampler.model_dump(mode="json")}
        sampler = SamplerSpec.model_validate(merge(own, {"sampler": patch})["sampler"])
    if errors := sampler_errors(spec, sampler):
        raise invalid(errors)
    return sampler
