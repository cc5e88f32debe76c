"""GANs small enough to train in a test, and the gradients of their updates."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from models.presets import plan
from models.spec import BUILTIN_DATASETS, GanSpec
from models.spec.merge import merge
from models.training.entry import build_recipe
from models.training.means import Means
from models.training.recipe import Recipe
from models.training.update import one_step

CPU = torch.device("cpu")

_PER_IMAGE: dict[str, Any] = {
    "family": "gan",
    "seed": 5,
    "budget": {"steps": 32},
    "batch_size": 16,
    "samples": {"count": 4},
    "memory_format": "contiguous",
    "precision": "fp32",
    "threads": 1,
    "generator": {"ngf": 4, "nz": 8, "norm": "none", "init": "kaiming"},
    "discriminator": {"ndf": 4, "norm": "none", "init": "kaiming"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.01, "schedule": {"kind": "constant"}},
}
"""Without BatchNorm, so that no image of a batch changes what becomes of another."""

ADAM = {"kind": "adam", "learning_rate": 1e-3, "betas": [0.5, 0.9], "schedule": {"kind": "constant"}}


def per_image(**overrides: Any) -> GanSpec:
    """A resolved spec of a tiny GAN without BatchNorm, trained by SGD."""
    spec = plan(merge(_PER_IMAGE, overrides), BUILTIN_DATASETS.get).spec
    assert isinstance(spec, GanSpec)
    return spec


class Images:
    """Batches of noise with labels of ten classes."""

    def __init__(self, count: int = 16) -> None:
        self._count, self._generator = count, torch.Generator().manual_seed(0)

    def next(self) -> tuple[Tensor, Tensor]:
        images = torch.rand(self._count, 1, 16, 16, generator=self._generator) * 2 - 1
        return images, torch.randint(10, (self._count,), generator=self._generator)


class SameImages(Images):
    """The same batch at every step."""

    def __init__(self, count: int = 16) -> None:
        super().__init__(count)
        self._batch = super().next()

    def next(self) -> tuple[Tensor, Tensor]:
        return self._batch


def train(spec: GanSpec, steps: int, stream: Images | None = None) -> tuple[Recipe, Means]:
    """A new recipe after so many steps, and what it reported since the beginning."""
    recipe, means, stream = build_recipe(spec, CPU), Means(), stream or Images(spec.batch_size)
    for step in range(1, steps + 1):
        one_step(spec, recipe, stream, step, means, measure=True)
    return recipe, means


def gradients(spec: GanSpec, steps: int, stream: Images | None = None) -> dict[str, list[dict[str, Tensor]]]:
    """Of each network, what its optimizer was given at each of its updates, by parameter."""
    recipe, means, stream = build_recipe(spec, CPU), Means(), stream or Images(spec.batch_size)
    seen: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
    networks = {name: dict(network.named_parameters()) for name, network in recipe.networks.items()}
    optimizers = {
        name: phase.optimizer
        for phase in recipe.phases
        for name, network in recipe.networks.items()
        if network is phase.network
    }
    for name, optimizer in optimizers.items():

        def record(*_: Any, name: str = name) -> None:
            given = {key: p.grad.clone() for key, p in networks[name].items() if p.grad is not None}
            seen[name].append(given)

        optimizer.register_step_pre_hook(record)
    for step in range(1, steps + 1):
        one_step(spec, recipe, stream, step, means, measure=False)
    return seen
