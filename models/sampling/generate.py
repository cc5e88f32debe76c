"""Images from a trained network: image i depends on the network, its own seed and label, and the sampler."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.networks import SAMPLING_NETWORKS
from models.sampling.noise import draw, generators, initial_noise
from models.spec import DiffusionSpec, GanSpec, JobSpec, SamplerSpec, sampler_errors, sampler_of

GAN_CHUNK = 16
"""A generator always sees this many latents, padded where fewer are asked for: the kernels that a library
picks depend on the size of a batch, and so would the last bits of an image."""

DIFFUSION_CHUNK = 64
"""A denoiser sees at most this many images at once, to bound memory."""

Progress = Callable[[int, int], None]
"""Called with the evaluations of the network done so far, and their total."""


class SamplingError(ValueError):
    """The images cannot be made: the message says why and what would be accepted."""


def generate(
    networks: Mapping[str, nn.Module],
    spec: JobSpec,
    seeds: Sequence[int],
    *,
    sampler: SamplerSpec | None = None,
    labels: Sequence[int] | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """One image a seed: uint8 (N, C, H, W) on the CPU.

    `networks` holds `generator` or `network`: it is evaluated where it is, or moved to `device`, and its
    modes are restored. A diffusion model without `sampler` uses its spec's. Nothing is drawn from torch's
    global generator.

    Alone or among others, the same seed gives a GAN's image to the last bit; a diffusion model's may differ
    by 1/255. `labels` are the classes to show, one a seed, of a conditional model; left out, `labels_of` says
    them. Raises SamplingError.
    """
    if errors := sampler_errors(spec, sampler):
        raise SamplingError("; ".join(f"{error.path} {error.message}" for error in errors))
    labels_N = _labels(spec, seeds, labels)
    network = networks[SAMPLING_NETWORKS[spec.family]]
    if device is not None:
        network.to(device)
    with _evaluating(network), torch.no_grad():
        if isinstance(spec, GanSpec):
            chunks = _from_generator(network, spec, seeds, labels_N, progress)
        else:
            chunks = _from_denoiser(network, spec, seeds, labels_N, sampler_of(spec, sampler), progress)
        return _collect(chunks, spec)


def labels_of(spec: JobSpec, seeds: Sequence[int]) -> list[int] | None:
    """The classes that a conditional model shows where none are asked for; None of a model without labels.

    Each follows from its seed alone. As many seeds in a row as there are classes, the first a multiple of
    that, have every class once; the seeds of a coarser pattern, all even ones say, are spread over the
    classes by a hash.
    """
    if spec.conditional is None:
        return None
    classes = _classes(spec)
    return [(seed + _hash(seed // classes)) % classes for seed in seeds]


def _hash(number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"label/{number}".encode()).digest()[:8])


def _classes(spec: JobSpec) -> int:
    if spec.conditional is None or spec.conditional.classes is None:
        raise ValueError("the spec is not resolved: conditional.classes is missing")
    return spec.conditional.classes


def _labels(spec: JobSpec, seeds: Sequence[int], asked: Sequence[int] | None) -> Tensor | None:
    """Labels (N,) on the CPU, those asked for or each seed's own; None for a model without."""
    if spec.conditional is None:
        if asked is not None:
            raise SamplingError(
                "This model was trained without labels and makes no chosen class: leave labels out."
            )
        return None
    classes = _classes(spec)
    if asked is None:
        return torch.tensor(labels_of(spec, seeds), dtype=torch.long)
    if len(asked) != len(seeds):
        raise SamplingError(
            f"There are {len(asked)} labels for {len(seeds)} images: give one a seed, or none."
        )
    if wrong := [label for label in asked if not 0 <= label < classes]:
        raise SamplingError(
            f"Label {wrong[0]} is none of this model's: it has {classes} classes, 0 to {classes - 1}."
        )
    return torch.tensor(asked, dtype=torch.long)


def to_uint8(images: Tensor, value_range: tuple[float, float] = (-1, 1)) -> Tensor:
    """Images in a range to bytes on the CPU, rounded as diffusers' pipelines round; SamplingError on NaN."""
    if not images.isfinite().all():
        raise SamplingError(
            "The network returns NaN or infinity: its training diverged. Use an earlier checkpoint."
        )
    low, high = value_range
    return (((images - low) / (high - low)).clamp(0, 1).cpu() * 255).round().to(torch.uint8)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _collect(chunks: Iterator[Tensor], spec: JobSpec) -> Tensor:
    return torch.cat([torch.empty(0, *spec.data.image_shape, dtype=torch.uint8), *chunks])


def _from_generator(
    network: nn.Module,
    spec: GanSpec,
    seeds: Sequence[int],
    labels_N: Tensor | None,
    progress: Progress | None,
) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    starts = range(0, len(seeds), GAN_CHUNK)
    for done, start in enumerate(starts, 1):
        chunk = slice(start, start + GAN_CHUNK)
        noise = initial_noise(seeds[chunk], (spec.generator.nz,))
        told = () if labels_N is None else (_padded(labels_N[chunk]).to(device),)
        images = network(_padded(noise).to(device), *told)[: len(noise)]
        images = to_uint8(images, spec.data.range)
        if progress is not None:
            progress(done, len(starts))
        yield images


def _padded(rows: Tensor) -> Tensor:
    """GAN_CHUNK rows: these, then zeros."""
    full = rows.new_zeros(GAN_CHUNK, *rows.shape[1:])
    full[: len(rows)] = rows
    return full


def _from_denoiser(
    network: nn.Module,
    spec: DiffusionSpec,
    seeds: Sequence[int],
    labels_N: Tensor | None,
    sampler: SamplerSpec,
    progress: Progress | None,
) -> Iterator[Tensor]:
    # Here: a GAN does without diffusers.
    from models.sampling.samplers import Labels, Start, denoise, evaluations

    device = next(network.parameters()).device
    size = DIFFUSION_CHUNK if sampler.guidance_scale == 1 else DIFFUSION_CHUNK // 2  # it doubles each batch
    total, done = evaluations(sampler) * -(-len(seeds) // size), 0

    def after_evaluation() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for start in range(0, len(seeds), size):
        chunk = slice(start, start + size)
        sources = generators(seeds[chunk])
        noise = Start(draw(sources, spec.data.image_shape).to(device), sources)
        labels = None if labels_N is None else Labels(labels_N[chunk].to(device), _classes(spec))
        yield to_uint8(denoise(network, noise, spec, sampler, labels, after_evaluation))
