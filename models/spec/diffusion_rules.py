"""Combinations that no diffusion model survives, and why; and which sampler fits which model."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.data import DatasetFacts
from models.spec.derive import usual_sampler
from models.spec.diffusion import (
    IN_TIMESTEPS,
    DiffusionSpec,
    DitSpec,
    NoiseScheduleKind,
    Prediction,
    UnetSpec,
    Weighting,
)
from models.spec.fields import FieldError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.sampling import SamplerKind, SamplerSpec

SAMPLERS_OF: dict[bool, tuple[SamplerKind, ...]] = {
    True: (SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC),
    False: (SamplerKind.EULER, SamplerKind.HEUN),
}
"""By whether the noise schedule is in timesteps."""

_FIELDS_OF: dict[str, tuple[NoiseScheduleKind, ...]] = {
    "timesteps": IN_TIMESTEPS,
    "sigma_min": (NoiseScheduleKind.EDM,),
    "sigma_max": (NoiseScheduleKind.EDM,),
    "rho": (NoiseScheduleKind.EDM,),
    "sigma_data": (NoiseScheduleKind.EDM,),
    "time_mean": (NoiseScheduleKind.EDM, NoiseScheduleKind.FLOW),
    "time_std": (NoiseScheduleKind.EDM, NoiseScheduleKind.FLOW),
}


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
    errors = list(_steps_errors(schedule.timesteps, sampler, path))
    if kind is not SamplerKind.DDIM and sampler.eta:
        errors.append(FieldError(f"{path}.eta", f"holds for ddim only, not for {kind}; leave it out"))
    if spec.conditional is None and sampler.guidance_scale != 1:
        message = "draws towards a label, and this model was trained without labels; leave it out"
        errors.append(FieldError(f"{path}.guidance_scale", message))
    return errors


def sampler_of(spec: DiffusionSpec, asked: SamplerSpec | None) -> SamplerSpec:
    """The sampler to use: what is asked for, of the model's own kind where that names none, or its own."""
    if asked is None:
        return spec.sampler
    return asked.model_copy(update={"kind": asked.kind or spec.sampler.kind})


def _steps_errors(timesteps: int | None, sampler: SamplerSpec, path: str) -> Iterator[FieldError]:
    steps = sampler.steps
    if timesteps is None:
        return
    if steps > timesteps:
        yield FieldError(f"{path}.steps", f"is {steps}, more than the {timesteps} timesteps of the model")
    elif not _starts_from_noise(steps, timesteps):
        enough = next(more for more in range(steps, timesteps + 1) if _starts_from_noise(more, timesteps))
        message = f"is {steps}, which would begin far from pure noise; take {enough}"
        yield FieldError(f"{path}.steps", message)


def _starts_from_noise(steps: int, timesteps: int) -> bool:
    """Whether so many steps begin among the noisiest tenth of the timesteps, or are few.

    diffusers takes every (timesteps // steps)-th timestep counted from 0: 600 of 1000 would begin at 599.
    """
    return steps * 10 <= timesteps or (steps - 1) * (timesteps // steps) >= 0.9 * (timesteps - 1)


def diffusion_errors(spec: DiffusionSpec, facts: DatasetFacts) -> Iterator[FieldError]:
    """Every rule that a resolved spec breaks."""
    for rule in _RULES:
        yield from rule(spec)
    yield from sampler_errors(spec, spec.sampler)
    if spec.evaluation is not None:
        yield from sampler_errors(spec, spec.evaluation.sampler, path="evaluation.sampler")


def _network_fits(spec: DiffusionSpec) -> Iterable[FieldError]:
    resolution = spec.data.image_shape[1]
    if isinstance(spec.network, UnetSpec):
        yield from _unet_fits(spec.network, resolution)
    else:
        yield from _dit_fits(spec.network, resolution)


def _unet_fits(network: UnetSpec, resolution: int) -> Iterator[FieldError]:
    sides = [resolution >> level for level in range(len(network.multipliers))]
    if sides[-1] < 4:
        message = (
            f"halves {resolution} px down to {sides[-1]} px; the smallest map has 4 px: use fewer levels"
        )
        yield FieldError("network.multipliers", message)
    for multiplier in sorted(set(network.multipliers)):
        if network.channels * multiplier % network.norm_groups:
            message = f"must divide every width; {network.channels} × {multiplier} is not a multiple"
            yield FieldError("network.norm_groups", message)
    for index, side in enumerate(network.attention_resolutions):
        if side not in sides:
            message = f"there is no map of {side} px; the levels have {', '.join(map(str, sides))}"
            yield FieldError(f"network.attention_resolutions.{index}", message)


def _dit_fits(network: DitSpec, resolution: int) -> Iterator[FieldError]:
    if network.width % network.heads or network.width % 4:
        message = f"must be a multiple of heads ({network.heads}) and of 4; {network.width} is not"
        yield FieldError("network.width", message)
    if resolution // network.patch_size < 2:
        message = (
            f"cuts {resolution} px into {resolution // network.patch_size} patch a side; take a smaller one"
        )
        yield FieldError("network.patch_size", message)
    tokens = (resolution // network.patch_size) ** 2
    if tokens > 4096:
        message = f"makes {tokens} tokens of an image; at most 4096 are computed: take a larger one"
        yield FieldError("network.patch_size", message)


def _schedule_has_its_fields(spec: DiffusionSpec) -> Iterable[FieldError]:
    schedule = spec.noise_schedule
    for name, kinds in _FIELDS_OF.items():
        if getattr(schedule, name) is not None and schedule.kind not in kinds:
            message = f"is no field of kind {schedule.kind}, only of {', '.join(kinds)}; leave it out"
            yield FieldError(f"noise_schedule.{name}", message)
    if not schedule.zero_terminal_snr:
        return
    if schedule.kind not in IN_TIMESTEPS:
        yield FieldError("noise_schedule.zero_terminal_snr", f"{schedule.kind} has none; leave it out")
    elif spec.loss.prediction is Prediction.EPSILON:
        message = (
            "epsilon says nothing about the image where all is noise, which zero_terminal_snr makes of the "
            "last timestep; set v or x0"
        )
        yield FieldError("loss.prediction", message)


def _loss_fits(spec: DiffusionSpec) -> Iterable[FieldError]:
    loss, kind = spec.loss, spec.noise_schedule.kind
    if kind not in IN_TIMESTEPS:
        if loss.prediction is not None:
            message = f"noise_schedule.kind {kind} fixes what is predicted; leave it out"
            yield FieldError("loss.prediction", message)
        if loss.weighting is not Weighting.UNIFORM:
            message = f"noise_schedule.kind {kind} has a weight of its own; leave it out"
            yield FieldError("loss.weighting", message)
    if loss.weighting is not Weighting.MIN_SNR and loss.min_snr_gamma is not None:
        yield FieldError("loss.min_snr_gamma", "holds for min_snr only; leave it out")


def _images_are_centred(spec: DiffusionSpec) -> Iterable[FieldError]:
    if spec.data.range != (-1, 1):
        message = "diffusion adds centred noise and needs centred images; set [-1, 1]"
        yield FieldError("data.range", message)


_RULES: tuple[Callable[[DiffusionSpec], Iterable[FieldError]], ...] = (
    _network_fits,
    _schedule_has_its_fields,
    _loss_fits,
    _images_are_centred,
)
