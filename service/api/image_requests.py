"""What may be asked of a checkpoint, and the complete order that a worker is given for it."""

import base64
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.spec import MAX_SEED, DiffusionSpec, FieldError, JobSpec, SamplerSpec
from models.spec.fields import Seed
from models.spec.image_rules import image_errors
from models.spec.merge import merge
from service.api.image_options import (
    MAX_IMAGES,
    Animation,
    Grid,
    Interpolation,
    file_errors,
    grid_errors,
    grid_order,
)
from service.api.init_images import InitPicture, fitted
from service.api.problems import invalid

STRENGTH = 0.6

Label = Annotated[int, Field(ge=0)]
Format = Literal["png", "jpeg", "webp"]
FileFormat = Literal["png", "jpeg", "webp", "npz"]
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
    truncation: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="BigGAN's truncation trick (Brock et al. 2019): values of the noise further from 0 than "
        "this are drawn again, from the image's own seed, until they are not. Less makes safer images, and "
        "fewer kinds of them. Left out: none. For GANs alone.",
    )
    interpolate: Interpolation | None = Field(
        None,
        description="In place of `seed`, `seeds` and `n`: images on the way between two seeds. For GANs, and "
        "for samplers that draw no noise of their own (not `ddpm`, nor `ddim` with `eta`).",
    )
    init_image: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A PNG, JPEG or WebP file in base64 to begin with in place of noise, at most 16 million "
        "pixels; its centre square is resized to the model's resolution. For diffusion models alone.",
    )
    strength: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description=f"How far `init_image` is taken back to noise: the share of the sampler's steps that are "
        f"run, the last ones. Little keeps the image, 1 hardly anything of it. Left out: {STRENGTH}.",
    )
    format: FileFormat = Field(
        "png",
        description="File format of the pictures; `npz`: one file of numpy's with `images`, uint8 "
        "(N, H, W, C), `seeds` and `labels` (-1: none).",
    )
    quality: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Of `jpeg` (95 if left out) and `webp` (without any loss if left out)."
    )
    layout: Layout = Field(
        "separate",
        description="`separate`: a file an image, and a grid of all where there are several. "
        "`grid`: the grid of a single image, too, which `Accept: image/png` then answers.",
    )
    grid: Grid | None = Field(None, description="The layout of the picture of all images.")
    animation: Animation | None = Field(
        None, description="One more file, in which the images of `interpolate` follow each other."
    )
    metadata: bool = Field(
        True,
        description="Whether each PNG says in text chunks how it is made again: the checkpoint, its seed, "
        "label, sampler and the like, and nothing else. Files of other formats never do.",
    )


PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAE0lEQVR42mNgYGD4/58BAihgAAA+Jg/xObkRdAAAAABJRU5ErkJggg=="
)
"""A white line on black, as a PNG in base64."""

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
    "truncation": (
        "A GAN's safer images, five in a row",
        {"n": 10, "truncation": 0.5, "grid": {"columns": 5}},
    ),
    "interpolation": (
        "From one image to another, as an animation",
        {
            "interpolate": {"from": 1, "to": 2, "steps": 24},
            "animation": {"format": "webp", "frame_milliseconds": 80},
        },
    ),
    "image": (
        "Four variations of a picture, by a diffusion model",
        {"n": 4, "init_image": PICTURE, "strength": 0.5},
    ),
    "array": ("A thousand images for numpy", {"n": 1000, "seed": 0, "format": "npz"}),
}


def order(asked: ImagesRequest, spec: JobSpec, init: InitPicture | None = None) -> dict[str, Any]:
    """The request with every choice written out; what does not fit the checkpoint is refused at once.

    `init` is the picture that `asked.init_image` holds.
    """
    seeds, sampler = _seeds(asked), _sampler(asked, spec)
    if errors := _errors(asked, spec, sampler, len(seeds)):
        raise invalid(errors)
    return {
        "seeds": seeds,
        "labels": _labels(asked.labels, len(seeds), spec),
        "sampler": None if sampler is None else sampler.model_dump(mode="json"),
        "truncation": asked.truncation,
        "interpolate": None if asked.interpolate is None else asked.interpolate.model_dump(by_alias=True),
        "init_image": None if init is None else _init_order(init, spec),
        "strength": None if init is None else asked.strength or STRENGTH,
        "format": asked.format,
        "quality": asked.quality,
        "layout": asked.layout,
        "grid": None if asked.format == "npz" else grid_order(asked.grid, len(seeds)),
        "animation": None if asked.animation is None else asked.animation.model_dump(),
        "metadata": asked.metadata,
    }


def _init_order(init: InitPicture, spec: JobSpec) -> dict[str, Any]:
    """In the row itself: it is small, and goes with it."""
    return {"png": base64.b64encode(fitted(init, spec)).decode(), "sha256": init.sha256}


def _errors(asked: ImagesRequest, spec: JobSpec, sampler: SamplerSpec | None, count: int) -> list[FieldError]:
    errors = image_errors(
        spec,
        sampler=sampler,
        truncation=asked.truncation,
        interpolates=asked.interpolate is not None,
        has_init_image=asked.init_image is not None,
    )
    if asked.strength is not None and asked.init_image is None:
        errors.append(FieldError("strength", "says how much of init_image is changed; give that, too"))
    errors += file_errors(
        asked.format, asked.quality, asked.animation, interpolates=asked.interpolate is not None
    )
    errors += grid_errors(asked.format, asked.layout, asked.grid, count, spec.data.image_shape)
    return errors


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
    """One seed an image; of an interpolation its first, for each."""
    if asked.interpolate is not None:
        if given := [name for name in ("n", "seed", "seeds") if getattr(asked, name) is not None]:
            raise invalid(dict.fromkeys(given, "interpolate says which images, and how many; leave it out"))
        return [asked.interpolate.start] * asked.interpolate.steps
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
        given = sampler and sampler.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        patch = given or {}
        patch |= {} if scale is None else {"guidance_scale": scale}
        own = {"sampler": spec.sampler.model_dump(mode="json")}
        sampler = SamplerSpec.model_validate(merge(own, {"sampler": patch})["sampler"])
    return sampler
