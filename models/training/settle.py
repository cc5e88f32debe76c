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
_TIMED_SECONDS = 0.03  # a step of so long is timed once: its noise is small, and the run waits for it
_FEW_IMAGES = 16  # in a batch of so many a slow network's choices stand to each other as in a whole one
_SLOW_SECONDS = 0.12
_WORTHWHILE = 0.95  # another choice than plain float32 must save 5 %: less is noise

BuildRecipe = Callable[[JobSpec, torch.device], Recipe]


def settle(spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> JobSpec:
    """The spec with nothing left for the device to decide; a settled spec comes back as it is.

    Where they are open, steps of each precision are timed, then of each memory format in the better one.
    """
    threads = spec.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    precisions = _precisions(spec.precision, device)
    formats = [spec.memory_format] if spec.memory_format is not MemoryFormat.AUTO else list(MEMORY_FORMATS)
    plain = {"threads": threads, "precision": precisions[0], "memory_format": formats[0]}
    settled = spec.model_copy(update=plain)
    if len(precisions) == len(formats) == 1:
        return settled
    with torch.random.fork_rng(devices=[]):
        trial = _first_trial(settled, device, build_recipe)
        least = trial.seconds()
        others = [("precision", precisions[1:]), ("memory_format", formats[1:])]
        for field, choice in ((field, choice) for field, choices in others for choice in choices):
            other = _Trial(trial.spec.model_copy(update={field: choice}), device, build_recipe)
            if (seconds := other.seconds()) < _WORTHWHILE * least:
                least, trial = seconds, other
    return settled.model_copy(update={name: getattr(trial.spec, name) for name in plain})


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


class _Trial:
    """Steps of one choice, on networks that are thrown away."""

    def __init__(self, spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> None:
        self.spec = spec
        self._device = device
        self._recipe, self._noise, self._means = build_recipe(spec, device), _Noise(spec, device), Means()
        self.first_seconds = self._step(1)  # much that later steps find done is done in it

    def seconds(self) -> float:
        """Of the fastest of a few more."""
        timed: list[float] = []
        while len(timed) < _TIMED_STEPS and sum(timed) < _TIMED_SECONDS:
            timed.append(self._step(len(timed) + 2))
        return min(timed)

    def _step(self, step: int) -> float:
        began = time.perf_counter()
        one_step(self.spec, self._recipe, self._noise, step, self._means, measure=False)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


def _first_trial(spec: JobSpec, device: torch.device, build_recipe: BuildRecipe) -> _Trial:
    """Of a spec's own batches, or of small ones where its network is slow on a processor."""
    if device.type == "cpu":
        few = min(_FEW_IMAGES, spec.batch_size // spec.accumulation)
        small = spec.model_copy(update={"batch_size": few, "accumulation": 1})
        trial = _Trial(small, device, build_recipe)
        if trial.first_seconds * spec.batch_size / few > _SLOW_SECONDS:
            return trial
    return _Trial(spec, device, build_recipe)
