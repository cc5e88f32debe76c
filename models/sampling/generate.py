"""Images from a trained network: image i depends on the network, its own seed and label, and the sampler."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks import SAMPLING_NETWORKS
from models.sampling.errors import SamplingError
from models.sampling.labels import classes_of, label_tensor
from models.sampling.noise import Between, Origin, draw, generators, initial_noise
from models.spec import DiffusionSpec, GanSpec, JobSpec, SamplerSpec, sampler_of
from models.spec.image_rules import image_errors

GAN_CHUNK = 16
"""A generator always sees this many latents, padded where fewer are asked for: the kernels that a library
picks depend on the size of a batch, and so would the last bits of an image."""

DIFFUSION_CHUNK = 64
"""A denoiser sees at most this many images at once, to bound memory."""

Progress = Callable[[int, int], None]
"""Called with the evaluations of the network done so far, and their total."""


@dataclass(frozen=True)
class InitImages:
    """What a diffusion model begins with in place of noise: uint8 (N, C, H, W), one an image.

    Noise is added up to the level at which the last `strength` in (0, 1] of the sampler's steps begin, and
    those are run: with 1 hardly anything is left of the images, with little they hardly change.
    """

    images: Tensor
    strength: float


def generate(
    networks: Mapping[str, nn.Module],
    spec: JobSpec,
    origins: Sequence[Origin],
    *,
    sampler: SamplerSpec | None = None,
    truncation: float | None = None,
    labels: Sequence[int] | None = None,
    init: InitImages | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """One image an origin, which is a seed or a point between two: uint8 (N, C, H, W) on the CPU.

    `networks` holds `generator` or `network`: it is evaluated where it is, or moved to `device`, and its
    modes are restored. A diffusion model without `sampler` uses its spec's. A GAN takes `truncation` in
    (0, 1], see `noise.truncated`. Nothing is drawn from torch's global generator.

    Alone or among others, the same origin gives a GAN's image to the last bit; a diffusion model's may differ
    by 1/255. `labels` are the classes to show, one an origin, of a conditional model; left out, `labels_of`
    says them. Raises SamplingError.
    """
    if isinstance(spec, DiffusionSpec):
        sampler = sampler_of(spec, sampler)
    _check(spec, origins, sampler, truncation, init)
    labels_N = label_tensor(spec, origins, labels)
    network = networks[SAMPLING_NETWORKS[spec.family]]
    if device is not None:
        network.to(device)
    with _evaluating(network), torch.no_grad():
        if isinstance(spec, GanSpec):
            chunks = _from_generator(network, spec, origins, truncation, labels_N, progress)
        else:
            assert sampler is not None  # noqa: S101  a diffusion model's is settled above
            chunks = _from_denoiser(network, spec, origins, labels_N, sampler, init, progress)
        return _collect(chunks, spec)


def _check(
    spec: JobSpec,
    origins: Sequence[Origin],
    sampler: SamplerSpec | None,
    truncation: float | None,
    init: InitImages | None,
) -> None:
    errors = image_errors(
        spec,
        sampler=sampler,
        truncation=truncation,
        interpolates=any(isinstance(origin, Between) for origin in origins),
        has_init_image=init is not None,
    )
    if errors:
        raise SamplingError("; ".join(f"{error.path} {error.message}" for error in errors))
    if init is None:
        return
    expected = (len(origins), *spec.data.image_shape)
    if init.images.dtype != torch.uint8 or tuple(init.images.shape) != expected:
        raise SamplingError(f"init needs uint8 {expected}, not {init.images.dtype} {(*init.images.shape,)}.")
    if not 0 < init.strength <= 1:
        raise SamplingError(f"strength is {init.strength}; it must be above 0 and at most 1.")


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
    origins: Sequence[Origin],
    truncation: float | None,
    labels_N: Tensor | None,
    progress: Progress | None,
) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    starts = range(0, len(origins), GAN_CHUNK)
    for done, start in enumerate(starts, 1):
        chunk = slice(start, start + GAN_CHUNK)
        noise = initial_noise(origins[chunk], (spec.generator.nz,), truncation)
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
    origins: Sequence[Origin],
    labels_N: Tensor | None,
    sampler: SamplerSpec,
    init: InitImages | None,
    progress: Progress | None,
) -> Iterator[Tensor]:
    # Here: a GAN does without diffusers.
    from models.sampling.samplers import Labels, Start, denoise, evaluations

    device = next(network.parameters()).device
    size = DIFFUSION_CHUNK if sampler.guidance_scale == 1 else DIFFUSION_CHUNK // 2  # it doubles each batch
    strength = 1.0 if init is None else init.strength
    total, done = evaluations(sampler, strength) * -(-len(origins) // size), 0

    def after_evaluation() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for first in range(0, len(origins), size):
        chunk = slice(first, first + size)
        begun = None if init is None else init.images[chunk].to(device) / 127.5 - 1
        noise, sources = _noise(origins[chunk], spec.data.image_shape)
        start = Start(noise.to(device), sources, begun, strength)
        labels = None if labels_N is None else Labels(labels_N[chunk].to(device), classes_of(spec))
        yield to_uint8(denoise(network, start, spec, sampler, labels, after_evaluation))


def _noise(origins: Sequence[Origin], shape: tuple[int, ...]) -> tuple[Tensor, list[torch.Generator]]:
    """Each image's first noise, and the generator that draws the rest of it: a seed's alone has more."""
    sources = generators([origin.start if isinstance(origin, Between) else origin for origin in origins])
    drawn = draw(sources, shape)
    for i, origin in enumerate(origins):
        if isinstance(origin, Between):
            drawn[i] = initial_noise([origin], shape)[0]
    return drawn, sources
