"""Images from a trained network; image i depends on the network, its own seed and the sampler alone."""

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
    by 1/255. Raises SamplingError.
    """
    if labels is not None:
        raise SamplingError(
            "This model was trained without labels and makes no chosen class: leave labels out."
        )
    if errors := sampler_errors(spec, sampler):
        raise SamplingError("; ".join(f"{error.path} {error.message}" for error in errors))
    network = networks[SAMPLING_NETWORKS[spec.family]]
    if device is not None:
        network.to(device)
    with _evaluating(network), torch.no_grad():
        if isinstance(spec, GanSpec):
            chunks = _from_generator(network, spec, seeds, progress)
        else:
            chunks = _from_denoiser(network, spec, seeds, sampler_of(spec, sampler), progress)
        return _collect(chunks, spec)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] to bytes on the CPU, rounded as diffusers' pipelines round; SamplingError on NaN."""
    if not images.isfinite().all():
        raise SamplingError(
            "The network returns NaN or infinity: its training diverged. Use an earlier checkpoint."
        )
    return ((images / 2 + 0.5).clamp(0, 1).cpu() * 255).round().to(torch.uint8)


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
    network: nn.Module, spec: GanSpec, seeds: Sequence[int], progress: Progress | None
) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    starts = range(0, len(seeds), GAN_CHUNK)
    for done, start in enumerate(starts, 1):
        latents = torch.zeros(GAN_CHUNK, spec.generator.nz)
        own = initial_noise(seeds[start : start + GAN_CHUNK], (spec.generator.nz,))
        latents[: len(own)] = own
        images = to_uint8(network(latents.to(device))[: len(own)])
        if progress is not None:
            progress(done, len(starts))
        yield images


def _from_denoiser(
    network: nn.Module,
    spec: DiffusionSpec,
    seeds: Sequence[int],
    sampler: SamplerSpec,
    progress: Progress | None,
) -> Iterator[Tensor]:
    from models.sampling.samplers import denoise  # here: a GAN does without diffusers

    device = next(network.parameters()).device
    total, done = sampler.steps * -(-len(seeds) // DIFFUSION_CHUNK), 0

    def after_step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for start in range(0, len(seeds), DIFFUSION_CHUNK):
        sources = generators(seeds[start : start + DIFFUSION_CHUNK])
        noise = draw(sources, spec.data.image_shape).to(device)
        yield to_uint8(denoise(network, noise, sources, spec, sampler, after_step))
