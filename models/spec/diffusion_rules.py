"""Combinations that no diffusion model survives, and why."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.data import DatasetFacts
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
from models.spec.sampler_rules import sampler_errors

_FIELDS_OF: dict[str, tuple[NoiseScheduleKind, ...]] = {
    "timesteps": IN_TIMESTEPS,
    "sigma_min": (NoiseScheduleKind.EDM,),
    "sigma_max": (NoiseScheduleKind.EDM,),
    "rho": (NoiseScheduleKind.EDM,),
    "sigma_data": (NoiseScheduleKind.EDM,),
    "time_mean": (NoiseScheduleKind.EDM, NoiseScheduleKind.FLOW),
    "time_std": (NoiseScheduleKind.EDM, NoiseScheduleKind.FLOW),
}


def diffusion_errors(spec: DiffusionSpec, facts: DatasetFacts) -> Iterator[FieldError]:
    """Every rule that a resolved spec breaks."""
    for rule in _RULES:
        yield from rule(spec)
    own = sampler_errors(spec, spec.sampler)
    yield from own
    if spec.evaluation is not None:
        said = [error.message for error in own]  # an evaluation's sampler that is left out follows `sampler`
        for error in sampler_errors(spec, spec.evaluation.sampler, path="evaluation.sampler"):
            if error.message not in said:
                yield error


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
            message = f"noise_schedule.kind {kind} fixes what is predicted; set null"
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
