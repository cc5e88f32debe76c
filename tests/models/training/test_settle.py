"""What the device decides is decided once and stays."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.spec import JobSpec
from models.spec.training import MemoryFormat, Precision
from models.training.entry import build_recipe
from models.training.means import Means
from models.training.recipe import Recipe
from models.training.settle import place_networks, settle
from models.training.update import one_step
from tests.models.training.specs import small

CPU = torch.device("cpu")
TIMED: dict[str, Any] = {"memory_format": "auto", "precision": "fp32"}


def slowed(seconds: Callable[[JobSpec], float], built: list[JobSpec]) -> Callable[..., Recipe]:
    """Recipes whose every step takes so much longer, noted in `built`."""

    def build(spec: JobSpec, device: torch.device) -> Recipe:
        recipe = build_recipe(spec, device)
        built.append(spec)

        def draw(*batch: torch.Tensor) -> dict[str, torch.Tensor]:
            time.sleep(seconds(spec))
            return recipe.draw(*batch)

        return dataclasses.replace(recipe, draw=draw)

    return build


def test_auto_is_written_out_and_a_settled_spec_is_left_alone() -> None:
    spec = small("dcgan", memory_format="auto", threads=None, precision="auto")
    settled = settle(spec, CPU, build_recipe)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert settled.precision in ({Precision.BF16, Precision.FP32} if fast else {Precision.FP32})
    assert settled.threads == torch.get_num_threads()
    assert settled.memory_format in {MemoryFormat.CONTIGUOUS, MemoryFormat.CHANNELS_LAST}
    assert settle(settled, CPU, build_recipe) == settled


@pytest.mark.parametrize("slow", [MemoryFormat.CONTIGUOUS, MemoryFormat.CHANNELS_LAST])
def test_the_faster_memory_format_is_taken(slow: MemoryFormat) -> None:
    build = slowed(lambda spec: 0.5 if spec.memory_format is slow else 0.0, [])
    settled = settle(small("dcgan", **TIMED), CPU, build)
    assert settled.memory_format is not slow


def test_a_slow_network_is_timed_on_few_images_and_trained_on_all() -> None:
    """Or a job would wait for seconds before its first step."""
    built: list[JobSpec] = []
    spec = small("dcgan", batch_size=64, accumulation=2, **TIMED)
    settled = settle(spec, CPU, slowed(lambda _: 0.1, built))
    assert {(each.batch_size, each.accumulation) for each in built} == {(16, 1)}
    assert (settled.batch_size, settled.accumulation) == (64, 2)


def test_no_part_of_a_timed_batch_is_larger_than_those_of_the_spec() -> None:
    """Memory that holds a part of a batch may not hold more."""
    built: list[JobSpec] = []
    settle(small("dcgan", batch_size=64, accumulation=8, **TIMED), CPU, slowed(lambda _: 0.1, built))
    assert {each.batch_size for each in built} == {8}


def test_the_thread_count_of_the_spec_is_used() -> None:
    settle(small("dcgan", threads=1), CPU, build_recipe)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("choice", ["contiguous", "channels_last"])
def test_the_memory_format_reaches_the_weights(choice: str) -> None:
    networks = place_networks(small("dcgan", data={"channels": 3}, memory_format=choice), CPU)
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[choice]
    for network in networks.values():
        for weights in network.parameters():
            if weights.dim() == 4:
                assert weights.is_contiguous(memory_format=layout)


def test_the_seed_alone_decides_the_first_weights() -> None:
    one, same, other = (build_recipe(small("dcgan", seed=seed), CPU) for seed in (1, 1, 2))
    key = "main.0.weight"
    weights = [recipe.networks["generator"].state_dict()[key] for recipe in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bf16_is_asked_of_the_networks_and_not_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast computes in bf16 and keeps float32 weights; in fp32 nothing is cast."""
    seen: dict[str, torch.dtype] = {}
    for precision in ("fp32", "bf16"):
        spec = small("dcgan-vanilla", precision=precision)
        recipe = build_recipe(spec, CPU)
        convolution = recipe.networks["discriminator"].main[0]

        def note(_: object, __: object, output: torch.Tensor, precision: str = precision) -> None:
            seen[precision] = output.dtype

        convolution.register_forward_hook(note)
        images = (torch.zeros(16, 1, 16, 16), torch.zeros(16, dtype=torch.long))
        stream = type("Zeros", (), {"next": lambda self, images=images: images})()
        one_step(spec, recipe, stream, 1, Means(), measure=True)
        assert convolution.weight.dtype is torch.float32
    assert seen == {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.mark.gpu
def test_on_a_gpu_everything_is_placed_there_and_bf16_where_it_is_fast() -> None:
    device = torch.device("cuda")
    settled = settle(small("dcgan", memory_format="auto", precision="auto"), device, build_recipe)
    fast = torch.cuda.get_device_capability(device) >= (8, 0)
    assert settled.precision is (Precision.BF16 if fast else Precision.FP32)
    recipe = build_recipe(settled, device)
    for network in [*recipe.networks.values(), *recipe.sampling_networks().values()]:
        assert {weights.device.type for weights in network.state_dict().values()} == {"cuda"}
