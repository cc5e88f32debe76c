"""What a spec that parses may still not combine, with the reason, and what it is warned of."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.data import DatasetFacts
from models.spec.diffusion import DiffusionSpec
from models.spec.fields import FieldError
from models.spec.gan import GanSpec
from models.spec.job import JobSpec
from models.spec.optimizer import OptimizerSpec
from models.spec.sampling import SamplerKind, SamplerSpec

SMALLEST_NORMALISED_BATCH = 8


def broken_rules(spec: JobSpec) -> list[FieldError]:
    """Every rule that a resolved spec breaks."""
    return [error for rule in _RULES for error in rule(spec)]


def sampler_errors(spec: JobSpec, sampler: SamplerSpec | None) -> list[FieldError]:
    """Why a model trained by `spec` cannot be sampled by `sampler`; empty where it can."""
    if sampler is None:
        return []
    if isinstance(spec, GanSpec):
        return [FieldError("sampler", "a GAN makes an image in one pass and takes no sampler; leave it out")]
    errors = []
    timesteps, steps = spec.noise_schedule.timesteps, sampler.steps
    if steps > timesteps:
        message = f"is {steps}, more than the {timesteps} timesteps of the model"
        errors.append(FieldError("sampler.steps", message))
    elif not _starts_from_noise(steps, timesteps):
        enough = next(more for more in range(steps, timesteps + 1) if _starts_from_noise(more, timesteps))
        message = f"is {steps}, which would begin far from pure noise; take {enough}"
        errors.append(FieldError("sampler.steps", message))
    if sampler.kind is SamplerKind.DDPM and sampler.eta:
        errors.append(FieldError("sampler.eta", "holds for ddim only: ddpm's noise is fixed; leave it out"))
    return errors


def _starts_from_noise(steps: int, timesteps: int) -> bool:
    """Whether so many steps begin among the noisiest tenth of the timesteps, or are few.

    diffusers takes every (timesteps // steps)-th timestep counted from 0: 600 of 1000 would begin at 599.
    """
    return steps * 10 <= timesteps or (steps - 1) * (timesteps // steps) >= 0.9 * (timesteps - 1)


def warnings(spec: JobSpec, facts: DatasetFacts, steps: int) -> Iterator[str]:
    """What is allowed and probably not meant."""
    resolution, channels = spec.data.resolution or 0, spec.data.channels or 0
    if resolution > facts.resolution:
        yield (
            f"data.resolution {resolution} is more than the {facts.resolution} px at which "
            f"{facts.name!r} is stored: images are enlarged and carry no more detail"
        )
    if channels < facts.channels:
        yield f"data.channels 1 turns the colour images of {facts.name!r} grey"
    if spec.data.horizontal_flip and facts.name == "digits":
        yield "data.horizontal_flip mirrors digits: mirrored ones will be learnt"
    for path, optimizer in _optimizers(spec):
        if isinstance(spec, GanSpec) and optimizer.betas[0] >= 0.9:
            yield f"{path}.betas: β1 = {optimizer.betas[0]} makes GANs oscillate; 0.5 or 0 is usual"
        if (warmup := optimizer.schedule.warmup_steps or 0) >= steps:
            yield (
                f"{path}.schedule.warmup_steps {warmup} is not less than the {steps} steps of the run: "
                "learning_rate is never reached"
            )
    if spec.batch_size > facts.count:
        yield f"batch_size {spec.batch_size} is more than the {facts.count} images: batches repeat images"


def _optimizers(spec: JobSpec) -> Iterator[tuple[str, OptimizerSpec]]:
    yield "optimizer", spec.optimizer
    if isinstance(spec, GanSpec):
        for name in ("generator", "discriminator"):
            optimizer: OptimizerSpec | None = getattr(spec.optimizers, name)
            if optimizer is not None:
                yield f"optimizers.{name}", optimizer


def _batch_is_divisible(spec: JobSpec) -> Iterable[FieldError]:
    if spec.batch_size % spec.accumulation:
        yield FieldError("accumulation", f"must divide batch_size {spec.batch_size} into equal parts")


def _batch_norm_has_a_batch(spec: JobSpec) -> Iterable[FieldError]:
    part = spec.batch_size // spec.accumulation
    if isinstance(spec, GanSpec) and part < SMALLEST_NORMALISED_BATCH:
        message = f"BatchNorm sees {part} images at a time; its statistics need {SMALLEST_NORMALISED_BATCH}"
        yield FieldError("batch_size", f"{message}: raise batch_size or lower accumulation")


def _unet_fits(spec: JobSpec) -> Iterable[FieldError]:
    if not isinstance(spec, DiffusionSpec):
        return
    network, resolution = spec.network, spec.data.resolution or 0
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


def _sampler_fits(spec: JobSpec) -> Iterable[FieldError]:
    return sampler_errors(spec, spec.sampler) if isinstance(spec, DiffusionSpec) else ()


_RULES: tuple[Callable[[JobSpec], Iterable[FieldError]], ...] = (
    _batch_is_divisible,
    _batch_norm_has_a_batch,
    _unet_fits,
    _sampler_fits,
)
