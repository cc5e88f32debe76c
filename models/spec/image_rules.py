"""Which ways to make an image fit which model: truncation, interpolation, another image to begin with."""

from collections.abc import Iterator

from models.spec.fields import FieldError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.sampler_rules import sampler_errors
from models.spec.sampling import SamplerKind, SamplerSpec


def image_errors(
    spec: JobSpec,
    *,
    sampler: SamplerSpec | None,
    truncation: float | None,
    interpolates: bool,
    has_init_image: bool,
) -> list[FieldError]:
    """Why a model trained by `spec` cannot make images in this way; empty where it can.

    `sampler` is the one that is used, its kind named; None of a GAN.
    """
    return [
        *sampler_errors(spec, sampler),
        *_truncation_errors(spec, truncation),
        *(_interpolation_errors(sampler) if interpolates else ()),
        *(_init_image_errors(spec) if has_init_image else ()),
    ]


def is_stochastic(sampler: SamplerSpec) -> bool:
    """Whether it draws noise at its steps as well, so that the noise it begins with is not all."""
    return sampler.kind is SamplerKind.DDPM or sampler.eta > 0


def _truncation_errors(spec: JobSpec, truncation: float | None) -> Iterator[FieldError]:
    if truncation is None:
        return
    if not isinstance(spec, GanSpec):
        message = "holds for GANs alone: a diffusion model is not trained on cut-off noise; leave it out"
        yield FieldError("truncation", message)
    elif not 0 < truncation <= 1:
        yield FieldError("truncation", f"is {truncation}; it must be above 0 and at most 1")


def _interpolation_errors(sampler: SamplerSpec | None) -> Iterator[FieldError]:
    if sampler is not None and is_stochastic(sampler):
        name = "ddpm" if sampler.kind is SamplerKind.DDPM else f"ddim with eta {sampler.eta:g}"
        message = f"needs a sampler that draws no noise of its own, and {name} does; take ddim with eta 0"
        yield FieldError("interpolate", message)


def _init_image_errors(spec: JobSpec) -> Iterator[FieldError]:
    if isinstance(spec, GanSpec):
        message = "holds for diffusion models alone: a GAN makes its images from noise only; leave it out"
        yield FieldError("init_image", message)
