"""A batch in four parts gives the gradients of the whole batch, whatever the technique."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from models.spec import GanSpec
from models.spec.gan import GanLoss
from tests.models.training.gans import gradients, per_image, train

STEPS = 3
SPECTRAL = {"generator": {"spectral_norm": True}, "discriminator": {"spectral_norm": True}}
DIFFAUGMENT = {"kind": "diffaugment", "policy": ["colour", "translation", "cutout", "rotation"]}
R1_AND_R2 = [{"kind": "r1", "weight": 2.0}, {"kind": "r2", "weight": 3.0}]

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sigmoid": {"discriminator": {"output": "sigmoid"}},
    "gradient_penalty": {"penalties": [{"kind": "gradient_penalty"}]},
    "r1_and_r2": {"penalties": R1_AND_R2},
    "lazy": {"penalties": [{"kind": "r1", "weight": 2.0, "every": 2}, {"kind": "r2", "every": 3}]},
    "diffaugment": {"discriminator_augmentation": DIFFAUGMENT},
    "diffaugment_with_r1": {"discriminator_augmentation": DIFFAUGMENT, "penalties": R1_AND_R2[:1]},
    "ada": {"discriminator_augmentation": {"kind": "ada", "policy": ["translation", "scale"]}},
    "spectral_norm": SPECTRAL,
    "spectral_norm_with_r1": {**SPECTRAL, "penalties": R1_AND_R2[:1]},
    "conditional": {"conditional": {}},
    "conditional_with_penalty": {"conditional": {}, "penalties": [{"kind": "gradient_penalty"}]},
    "critic_steps": {"discriminator_steps": 2},
    "relativistic": {"loss": {"kind": "relativistic"}, "penalties": R1_AND_R2},
}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_parts(accumulation: int, case: dict[str, Any]) -> GanSpec:
    return per_image(batch_size=64, accumulation=accumulation, **case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_four_parts_of_16_are_one_batch_of_64(case: dict[str, Any]) -> None:
    """Of both networks, at each of three steps: what is random was drawn once for all parts."""
    whole, parts = (gradients(in_parts(accumulation, case), STEPS) for accumulation in (1, 4))
    assert whole.keys() == parts.keys() == {"generator", "discriminator"}
    for name, updates in whole.items():
        assert len(updates) == len(parts[name])
        for update, in_four in zip(updates, parts[name], strict=True):
            assert update.keys() == in_four.keys()
            for key, gradient in update.items():
                apart = (gradient - in_four[key]).norm()
                assert apart <= 1e-10 * gradient.norm(), (name, key)


def test_the_probability_of_ada_is_that_of_the_whole_batch() -> None:
    """Signs of all parts are counted before it moves, by 64 · 4 of 512 images, behind the fourth step."""
    ada = {"kind": "ada", "target": 0.01, "adjustment_images": 512}
    case = {"discriminator_augmentation": ada, "optimizer": {"learning_rate": 0.1}}
    for accumulation in (1, 4):
        recipe, _ = train(in_parts(accumulation, case), 4)
        assert recipe.state["ada/probability"].item() == 0.5


def test_the_networks_have_gradients_to_compare() -> None:
    """Zeros would agree, too."""
    for updates in gradients(in_parts(1, {}), STEPS).values():
        assert len(updates) == STEPS
        assert all(gradient.norm() > 1e-6 for update in updates for gradient in update.values())


@pytest.mark.parametrize("kind", GanLoss)
def test_every_loss_is_a_mean_over_images(kind: GanLoss) -> None:
    case: dict[str, Any] = {"loss": {"kind": kind}}
    if kind is GanLoss.WASSERSTEIN:
        case["discriminator"] = {"weight_clip": 0.5}
    whole, parts = (gradients(in_parts(accumulation, case), 1) for accumulation in (1, 4))
    for name in whole:
        for key, gradient in whole[name][0].items():
            assert (gradient - parts[name][0][key]).norm() <= 1e-10 * gradient.norm(), (name, key)
