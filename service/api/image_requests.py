"""What may be asked of a checkpoint, and the complete order that a worker is given for it."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.spec import MAX_SEED, DiffusionSpec, GanSpec, SamplerSpec, sampler_errors
from models.spec.fields import Seed
from models.spec.merge import merge
from service.api.problems import invalid

MAX_IMAGES = 1000

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
    "seeds": ("Three images by their own seeds", {"seeds": [3, 14, 15], "format": "webp"}),
}


def order(asked: ImagesRequest, spec: GanSpec | DiffusionSpec) -> dict[str, Any]:
    """The request with every choice written out; what does not fit the checkpoint is refused at once."""
    sampler = _sampler(asked.sampler, spec)
    return {
        "seeds": _seeds(asked),
        "sampler": None if sampler is None else sampler.model_dump(mode="json"),
        "format": asked.format,
        "layout": asked.layout,
    }


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


def _sampler(asked: SamplerSpec | None, spec: GanSpec | DiffusionSpec) -> SamplerSpec | None:
    sampler = asked
    if isinstance(spec, DiffusionSpec):
        patch = {} if asked is None else asked.model_dump(mode="json", exclude_unset=True)
        own = {"sampler": spec.sampler.model_dump(mode="json")}
        sampler = SamplerSpec.model_validate(merge(own, {"sampler": patch})["sampler"])
    if errors := sampler_errors(spec, sampler):
        raise invalid(errors)
    return sampler
