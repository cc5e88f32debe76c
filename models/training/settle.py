"""What depends on the device, decided once and written into the spec: precision, threads, memory format."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.networks.factory import build_networks, compile_networks
from models.spec import JobSpec
from models.spec.training import MemoryFormat, Precision
from models.training.means import Means
from models.training.recipe import Recipe
from models.training.update import one_step

MEMORY_FORMATS = {
    MemoryFormat.CONTIGUOUS: torch.contiguous_format,
    MemoryFormat.CHANNELS_LAST: torch.channels_last,
}
_TIMED_STEPS = 3
_TIMED_SECONDS = 0.2  # a step of so long is timed once: its noise is small, and the run waits for it
_WORTHWHILE = 0.95  # another choice than plain float32 must save 5 %: less is noise

BuildRecipe = Callable[[JobSpec, torch.device], Recipe]


def settle(spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> JobSpec:
    """The spec with nothing left for the device to decide; a settled spec comes back as it is.

    Where precision or memory format are open, a few steps of every choice are timed.
    """
    threads = spec.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    formats = [spec.memory_format] if spec.memory_format is not MemoryFormat.AUTO else list(MEMORY_FORMATS)
    choices = [
        spec.model_copy(update={"threads": threads, "precision": precision, "memory_format": memory_format})
        for precision in _precisions(spec.precision, device)
        for memory_format in formats
    ]
    if len(choices) == 1:
        return choices[0]
    seconds = [_step_seconds(choice, device, build_recipe) for choice in choices]
    fastest = min(range(len(choices)), key=seconds.__getitem__)
    return choices[fastest if seconds[fastest] < _WORTHWHILE * seconds[0] else 0]


def place_networks(spec: JobSpec, device: torch.device) -> dict[str, nn.Module]:
    """New networks on the device, in the spec's memory format, with weights that depend on the seed alone."""
    networks = build_networks(spec)
    if spec.compile:
        compile_networks(networks)
    layout = MEMORY_FORMATS[spec.memory_format]
    return {name: network.to(device).to(memory_format=layout) for name, network in networks.items()}


def _precisions(asked: Precision, device: torch.device) -> list[Precision]:
    """What `auto` may become: bf16 on a GPU that has it; on a processor that has it, whichever is faster.

    Without the hardware bf16 is emulated: an AVX2 processor was 25 times slower than in float32.
    """
    if asked is not Precision.AUTO:
        return [asked]
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
        return [Precision.BF16 if fast else Precision.FP32]
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return [Precision.FP32, Precision.BF16] if fast else [Precision.FP32]


class _Noise:
    """Batches of noise, to time steps without a dataset."""

    def __init__(self, spec: JobSpec, device: torch.device) -> None:
        self._images = torch.rand(spec.batch_size, *spec.data.image_shape, device=device) * 2 - 1
        self._labels = torch.zeros(spec.batch_size, dtype=torch.long, device=device)

    def next(self) -> tuple[Tensor, Tensor]:
        return self._images, self._labels


def _step_seconds(spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> float:
    """The fastest of a few steps after a first one, on networks that are thrown away."""
    with torch.random.fork_rng(devices=[]):
        recipe, noise, means = build_recipe(spec, device), _Noise(spec, device), Means()
        timed: list[float] = []
        for step in range(1, _TIMED_STEPS + 2):
            began = time.perf_counter()
            one_step(spec, recipe, noise, step, means, measure=False)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step > 1:
                timed.append(time.perf_counter() - began)
            if sum(timed) > _TIMED_SECONDS:
                break
        return min(timed)
