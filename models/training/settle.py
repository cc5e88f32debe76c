"""What depends on the device, decided once and written into the spec: precision, threads, memory format."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.networks.factory import build_networks
from models.spec import JobSpec
from models.spec.training import MemoryFormat, Precision
from models.training.loop import one_step
from models.training.means import Means
from models.training.recipe import Recipe

MEMORY_FORMATS = {
    MemoryFormat.CONTIGUOUS: torch.contiguous_format,
    MemoryFormat.CHANNELS_LAST: torch.channels_last,
}
_TIMED_STEPS = 3
_WORTHWHILE = 0.95  # channels_last must save 5 % to be chosen: less is noise

BuildRecipe = Callable[[JobSpec, torch.device], Recipe]


def settle(spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> JobSpec:
    """The spec with nothing left for the device to decide; a settled spec comes back as it is."""
    threads = spec.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    settled = spec.model_copy(update={"threads": threads, "precision": _precision(spec.precision, device)})
    if settled.memory_format is not MemoryFormat.AUTO:
        return settled
    seconds = {
        choice: _step_seconds(settled.model_copy(update={"memory_format": choice}), device, build_recipe)
        for choice in MEMORY_FORMATS
    }
    faster = seconds[MemoryFormat.CHANNELS_LAST] < _WORTHWHILE * seconds[MemoryFormat.CONTIGUOUS]
    choice = MemoryFormat.CHANNELS_LAST if faster else MemoryFormat.CONTIGUOUS
    return settled.model_copy(update={"memory_format": choice})


def place_networks(spec: JobSpec, device: torch.device) -> dict[str, nn.Module]:
    """New networks on the device, in the spec's memory format, with weights that depend on the seed alone."""
    networks = build_networks(spec)
    layout = MEMORY_FORMATS[spec.memory_format]
    return {name: network.to(device).to(memory_format=layout) for name, network in networks.items()}


def _precision(asked: Precision, device: torch.device) -> Precision:
    if asked is not Precision.AUTO:
        return asked
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return Precision.BF16 if has_bf16 else Precision.FP32


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
        fastest = float("inf")
        for step in range(1, _TIMED_STEPS + 2):
            began = time.perf_counter()
            one_step(spec, recipe, noise, step, means, measure_gradients=False)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step > 1:
                fastest = min(fastest, time.perf_counter() - began)
        return fastest
