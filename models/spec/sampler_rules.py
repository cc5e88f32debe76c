"""Which sampler fits which diffusion model, and how many steps it may take."""

from collections.abc import Iterator

from models.spec.diffusion import IN_TIMESTEPS, DiffusionSpec, NoiseScheduleKind
from models.spec.fields import FieldError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.sampling import SamplerKind, SamplerSpec

SAMPLERS_OF: dict[bool, tuple[SamplerKind, ...]] = {
    True: (SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC),
    False: (SamplerKind.EULER, SamplerKind.HEUN),
}
"""By whether the noise schedule is in timesteps."""


def usual_sampler(schedule: NoiseScheduleKind) -> SamplerKind:
    """The sampler of a noise schedule where none is named."""
    continuous = {NoiseScheduleKind.EDM: SamplerKind.HEUN, NoiseScheduleKind.FLOW: SamplerKind.EULER}
    return continuous.get(schedule, SamplerKind.DDIM)


def sampler_of(spec: DiffusionSpec, asked: SamplerSpec | None) -> SamplerSpec:
    """The sampler to use: what is asked for, of the model's own kind where that names none, or its own."""
    if asked is None:
        return spec.sampler
    return asked.model_copy(update={"kind": asked.kind or spec.sampler.kind})


def sampler_errors(spec: JobSpec, sampler: SamplerSpec | None, *, path: str = "sampler") -> list[FieldError]:
    """Why a model trained by `spec` cannot be sampled by `sampler`; empty where it can."""
    if sampler is None:
        return []
    if isinstance(spec, GanSpec):
        return [FieldError(path, "a GAN makes an image in one pass and takes no sampler; leave it out")]
    schedule = spec.noise_schedule
    kind = sampler.kind or spec.sampler.kind or usual_sampler(schedule.kind)
    fitting = SAMPLERS_OF[schedule.kind in IN_TIMESTEPS]
    if kind not in fitting:
        message = f"{kind} does not solve noise_schedule.kind {schedule.kind}; take {', '.join(fitting)}"
        return [FieldError(f"{path}.kind", message)]
    errors, timesteps = [], schedule.timesteps
    if timesteps is not None and sampler.steps > timesteps:
        message = f"is {sampler.steps}, more than the noise_schedule.timesteps {timesteps}"
        errors.append(FieldError(f"{path}.steps", message))
    if kind is not SamplerKind.DDIM and sampler.eta:
        errors.append(FieldError(f"{path}.eta", f"holds for ddim only, not for kind {kind}; leave it out"))
    if sampler.guidance_scale != 1:
        errors += _guidance_errors(spec, path)
    return errors


def _guidance_errors(spec: DiffusionSpec, path: str) -> Iterator[FieldError]:
    if spec.conditional is None:
        message = "draws towards a label, and conditional is null: this model knows no labels; leave it out"
        yield FieldError(f"{path}.guidance_scale", message)
    elif spec.conditional.label_dropout == 0:
        message = (
            "draws away from the prediction without a label, which conditional.label_dropout 0 never trains; "
            "leave it out"
        )
        yield FieldError(f"{path}.guidance_scale", message)
