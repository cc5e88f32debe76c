"""Combinations that no GAN survives, and why."""

from collections.abc import Callable, Iterable, Iterator

from models.spec.augmentation import DIFFERENTIABLE, DiscriminatorAugmentationKind
from models.spec.data import DatasetFacts
from models.spec.fields import FieldError
from models.spec.gan import DiscriminatorOutput, DiscriminatorSpec, GanLoss, GanSpec, GeneratorSpec, Penalty
from models.spec.layers import Norm

SMALLEST_NORMALISED_BATCH = 8
_OF_LOGITS = (GanLoss.WASSERSTEIN, GanLoss.HINGE, GanLoss.RELATIVISTIC)
_MAX_MULTIPLIER = 8


def gan_errors(spec: GanSpec, facts: DatasetFacts) -> Iterator[FieldError]:
    """Every rule that a resolved spec breaks."""
    for rule in _RULES:
        yield from rule(spec)


def _output_fits_loss(spec: GanSpec) -> Iterable[FieldError]:
    if spec.loss.kind in _OF_LOGITS and spec.discriminator.output is DiscriminatorOutput.SIGMOID:
        message = (
            f"sigmoid bounds the scores that loss.kind {spec.loss.kind} compares, and its gradient vanishes; "
            "set logits"
        )
        yield FieldError("discriminator.output", message)


def _one_constraint(spec: GanSpec) -> Iterable[FieldError]:
    if spec.loss.kind is not GanLoss.WASSERSTEIN:
        return
    constraints = {
        "discriminator.weight_clip": spec.discriminator.weight_clip is not None,
        "penalties of kind gradient_penalty": any(p.kind is Penalty.GRADIENT_PENALTY for p in spec.penalties),
        "discriminator.spectral_norm": spec.discriminator.spectral_norm,
    }
    given = [name for name, there in constraints.items() if there]
    if len(given) != 1:
        named = ", ".join(constraints)
        message = (
            f"wasserstein needs exactly one constraint on the discriminator's slope ({named}); there is "
            f"{' and '.join(given) or 'none'}"
        )
        yield FieldError("loss.kind", message)


def _penalties_are_per_image(spec: GanSpec) -> Iterable[FieldError]:
    if spec.penalties and spec.discriminator.norm is Norm.BATCH:
        kinds = ", ".join(penalty.kind for penalty in spec.penalties)
        message = (
            f"BatchNorm couples the images of a batch, and {kinds} of penalties is a gradient of each image "
            "alone; set none, group or instance"
        )
        yield FieldError("discriminator.norm", message)
    kinds_given = [penalty.kind for penalty in spec.penalties]
    for index, kind in enumerate(kinds_given):
        if kind in kinds_given[:index]:
            yield FieldError(f"penalties.{index}.kind", f"{kind} is given twice")
    if spec.compile and spec.penalties:
        message = "compiled networks have no second derivative, which penalties need; set false"
        yield FieldError("compile", message)


def _batch_norm_has_a_batch(spec: GanSpec) -> Iterable[FieldError]:
    part = spec.batch_size // spec.accumulation
    normalised = [
        f"{name}.norm"
        for name, network in (("generator", spec.generator), ("discriminator", spec.discriminator))
        if network.norm is Norm.BATCH
    ]
    if normalised and part < SMALLEST_NORMALISED_BATCH:
        message = f"BatchNorm ({', '.join(normalised)}) sees {part} images at a time"
        yield FieldError(
            "batch_size",
            f"{message}; its statistics need {SMALLEST_NORMALISED_BATCH}: raise batch_size or lower "
            "accumulation",
        )


def _maps(network: GeneratorSpec | DiscriminatorSpec, resolution: int) -> dict[int, int]:
    """Width of each hidden map by its side, the smallest first."""
    base = (network.ngf if isinstance(network, GeneratorSpec) else network.ndf) or 0
    sides = [4]
    while sides[-1] * 2 < resolution:
        sides.append(sides[-1] * 2)
    return {side: base * min(_MAX_MULTIPLIER, resolution // (2 * side)) for side in sides}


def _networks_fit(spec: GanSpec) -> Iterable[FieldError]:
    for name, network in (("generator", spec.generator), ("discriminator", spec.discriminator)):
        maps = _maps(network, spec.data.image_shape[1])
        for index, side in enumerate(network.attention_resolutions):
            if side not in maps:
                message = f"there is no hidden map of {side} px; there are {', '.join(map(str, maps))}"
                yield FieldError(f"{name}.attention_resolutions.{index}", message)
        normalised = list(maps.values())
        if isinstance(network, DiscriminatorSpec):
            normalised.pop()  # its first map, the largest
        uneven = [width for width in normalised if width % network.norm_groups]
        if network.norm is Norm.GROUP and uneven:
            message = f"must divide every width; {uneven[0]} is not a multiple of {network.norm_groups}"
            yield FieldError(f"{name}.norm_groups", message)


def _augmentation_is_differentiable(spec: GanSpec) -> Iterable[FieldError]:
    augmentation = spec.discriminator_augmentation
    if augmentation is None:
        return
    for index, kind in enumerate(augmentation.policy):
        path = f"discriminator_augmentation.policy.{index}"
        if kind not in DIFFERENTIABLE:
            message = (
                f"{kind} lets no gradient through to the generator, so that it would act on one side of the "
                f"discriminator only; take {', '.join(DIFFERENTIABLE)}"
            )
            yield FieldError(path, message)
        if kind in augmentation.policy[:index]:
            yield FieldError(path, f"{kind} is given twice")
    if augmentation.kind is not DiscriminatorAugmentationKind.ADA:
        for name in ("target", "adjustment_images"):
            if getattr(augmentation, name) is not None:
                yield FieldError(f"discriminator_augmentation.{name}", "holds for ada only; leave it out")


def _of_diffusion_only(spec: GanSpec) -> Iterable[FieldError]:
    if spec.conditional is not None and spec.conditional.label_dropout is not None:
        yield FieldError(
            "conditional.label_dropout", "is for the guidance of diffusion; leave it out of a GAN"
        )
    if spec.evaluation is not None and spec.evaluation.sampler is not None:
        yield FieldError(
            "evaluation.sampler", "a GAN makes an image in one pass and takes no sampler; leave it out"
        )


_RULES: tuple[Callable[[GanSpec], Iterable[FieldError]], ...] = (
    _output_fits_loss,
    _one_constraint,
    _penalties_are_per_image,
    _batch_norm_has_a_batch,
    _networks_fit,
    _augmentation_is_differentiable,
    _of_diffusion_only,
)
