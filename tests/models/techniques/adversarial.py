"""The games of a GAN, and the penalties on its discriminator's gradient."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.losses.adversarial import ADVERSARIAL, AdversarialLoss
from models.losses.penalties import PENALTIES
from models.spec.gan import DiscriminatorOutput, GanLoss, Penalty
from tests.models.techniques import Technique, row

Key = tuple[GanLoss, DiscriminatorOutput]


def slopes(key: Key, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of D's loss at outputs on real and on made images, and of G's, an image each."""
    loss, count = ADVERSARIAL[key], len(at)
    real, fake, made = (at.clone().requires_grad_() for _ in range(3))
    loss.discriminator(real, fake).backward()
    loss.generator(at, made).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert made.grad is not None
    return real.grad * count, fake.grad * count, made.grad * count


def outputs_of(key: Key, *logits: float) -> Tensor:
    values = torch.tensor(logits)
    return values.sigmoid() if key[1] is DiscriminatorOutput.SIGMOID else values


def spares_a_losing_generator(key: Key) -> None:
    """G's slope in the probability is -1 / (1 - D): small where D is sure that the image is made."""
    at = outputs_of(key, -8.0, 0.0)
    _, _, made = slopes(key, at)
    losing, even = made.tolist()
    assert losing / even < 1
    assert losing < 0


def helps_a_losing_generator(key: Key) -> None:
    """G's slope in the probability is -1 / D: largest where D is sure that the image is made."""
    _, _, made = slopes(key, outputs_of(key, -8.0, 0.0))
    losing, even = made.tolist()
    assert losing / even > 1


def pulls_to_its_targets(key: Key) -> None:
    """As far as an output is from its target, so strongly it is pulled back; beyond it, too."""
    at = torch.tensor([0.1, 0.5, 1.5])
    real, fake, made = slopes(key, at)
    torch.testing.assert_close(real, at - 1)
    torch.testing.assert_close(fake, at)
    torch.testing.assert_close(made, at - 1)


def is_a_difference_of_means(key: Key) -> None:
    """However sure D is, it goes on: only a constraint on its slope ends that."""
    real, fake, made = slopes(key, torch.tensor([-9.0, 0.0, 9.0]))
    assert real.tolist() == made.tolist() == [-1, -1, -1]
    assert fake.tolist() == [1, 1, 1]


def rests_beyond_the_margin(key: Key) -> None:
    """D leaves alone what is on the right side of ±1; G has the same slope everywhere."""
    real, fake, made = slopes(key, torch.tensor([-2.0, 0.0, 2.0]))
    assert real.tolist() == [-1, -1, 0]
    assert fake.tolist() == [0, 1, 1]
    assert made.tolist() == [-1, -1, -1]


def compares_pairs(key: Key) -> None:
    """Only differences count: the same added to all outputs changes neither loss."""
    loss = ADVERSARIAL[key]
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    torch.testing.assert_close(loss.discriminator(real + 5, fake + 5), loss.discriminator(real, fake))
    torch.testing.assert_close(loss.generator(real + 5, fake + 5), loss.generator(real, fake))
    assert loss.needs_real


GAMES: dict[GanLoss, Callable[[Key], None]] = {
    GanLoss.MINIMAX: spares_a_losing_generator,
    GanLoss.NON_SATURATING: helps_a_losing_generator,
    GanLoss.LEAST_SQUARES: pulls_to_its_targets,
    GanLoss.WASSERSTEIN: is_a_difference_of_means,
    GanLoss.HINGE: rests_beyond_the_margin,
    GanLoss.RELATIVISTIC: compares_pairs,
}


def another_game(key: Key) -> AdversarialLoss:
    """The classical game, and in its own place the one whose generator saturates."""
    classical = key[0] is GanLoss.NON_SATURATING
    return ADVERSARIAL[GanLoss.MINIMAX if classical else GanLoss.NON_SATURATING, key[1]]


def game(key: Key) -> Technique:
    technique = row(ADVERSARIAL, key, another_game(key), lambda: GAMES[key[0]](key))
    return replace(technique, name=f"{technique.name}.{key[1]}")


REAL, FAKE = torch.full((4, 1, 2, 2), 2.0), torch.full((4, 1, 2, 2), 5.0)


def slope_after(kind: Penalty, slope: float) -> float:
    """Of D(x) = w · mean(x) with |∇D| = |w| / 2, after a descent on the penalty alone."""
    weight = torch.tensor(2 * slope, requires_grad=True)
    for _ in range(100):
        value = PENALTIES[kind](lambda images: weight * images.mean((1, 2, 3)), REAL, FAKE, torch.rand(4))
        (gradient,) = torch.autograd.grad(value, weight)
        weight.data -= gradient
    return abs(weight.item()) / 2


def brings_the_slope_to_one() -> None:
    assert slope_after(Penalty.GRADIENT_PENALTY, 3.0) == pytest.approx(1, abs=0.01)
    assert slope_after(Penalty.GRADIENT_PENALTY, 0.2) == pytest.approx(1, abs=0.01)


def flattens(kind: Penalty, where: Tensor, elsewhere: Tensor) -> None:
    """The slope goes to 0, and only the images of its own kind count."""

    def curved(images: Tensor, bend: Tensor) -> Tensor:
        return (bend * images.square()).sum((1, 2, 3)) / 2

    assert slope_after(kind, 3.0) < 0.01
    bend = torch.ones((), requires_grad=True)
    arguments = (where, elsewhere) if kind is Penalty.R1 else (elsewhere, where)
    value = PENALTIES[kind](lambda images: curved(images, bend), *arguments, torch.rand(4))
    torch.testing.assert_close(value, where[0].square().sum() / 2)


def no_penalty(discriminator: Any, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Nothing, in a form that can be differentiated."""
    return 0 * discriminator(real).sum()


TECHNIQUES: list[Technique] = [
    *(game(key) for key in ADVERSARIAL),
    row(PENALTIES, Penalty.GRADIENT_PENALTY, no_penalty, brings_the_slope_to_one),
    row(PENALTIES, Penalty.R1, no_penalty, lambda: flattens(Penalty.R1, REAL, FAKE)),
    row(PENALTIES, Penalty.R2, no_penalty, lambda: flattens(Penalty.R2, FAKE, REAL)),
]
