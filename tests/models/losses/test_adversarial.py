"""Each adversarial loss against torch's own or a closed form, and what it pushes D's outputs to."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.adversarial import ADVERSARIAL
from models.spec.gan import DiscriminatorOutput, GanLoss

LOGITS = torch.tensor([-30.0, -2.0, 0.0, 0.5, 7.0])
ONES, ZEROS = torch.ones(5), torch.zeros(5)
BOUNDED = (GanLoss.MINIMAX, GanLoss.NON_SATURATING, GanLoss.LEAST_SQUARES)

Expected = Callable[[Tensor, Tensor], Tensor]


def entropy(outputs: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, target)


def mean(values: Tensor) -> Tensor:
    return values.mean()


OF_LOGITS: dict[GanLoss, tuple[Expected, Expected]] = {
    GanLoss.MINIMAX: (
        lambda real, fake: entropy(real, ONES) + entropy(fake, ZEROS),
        lambda real, fake: -entropy(fake, ZEROS),
    ),
    GanLoss.NON_SATURATING: (
        lambda real, fake: entropy(real, ONES) + entropy(fake, ZEROS),
        lambda real, fake: entropy(fake, ONES),
    ),
    GanLoss.LEAST_SQUARES: (
        lambda real, fake: (F.mse_loss(real, ONES) + F.mse_loss(fake, ZEROS)) / 2,
        lambda real, fake: F.mse_loss(fake, ONES) / 2,
    ),
    GanLoss.WASSERSTEIN: (lambda real, fake: mean(fake - real), lambda real, fake: mean(-fake)),
    GanLoss.HINGE: (
        lambda real, fake: F.hinge_embedding_loss(real, -ONES) + F.hinge_embedding_loss(-fake, -ONES),
        lambda real, fake: mean(-fake),
    ),
    GanLoss.RELATIVISTIC: (
        lambda real, fake: entropy(real - fake, ONES),
        lambda real, fake: entropy(fake - real, ONES),
    ),
}
"""Losses of D and of G from outputs of real and of made images, by torch's own functions."""


@pytest.mark.parametrize("kind", GanLoss)
def test_losses_of_logits_are_torchs(kind: GanLoss) -> None:
    loss, (expected_d, expected_g) = ADVERSARIAL[kind, DiscriminatorOutput.LOGITS], OF_LOGITS[kind]
    real, fake = LOGITS, LOGITS.flip(0) / 2
    torch.testing.assert_close(loss.discriminator(real, fake), expected_d(real, fake), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss.generator(real, fake), expected_g(real, fake), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [GanLoss.MINIMAX, GanLoss.NON_SATURATING])
def test_losses_of_probabilities_are_those_of_their_logits(kind: GanLoss) -> None:
    expected_d, expected_g = OF_LOGITS[kind]
    real, fake = LOGITS.double(), LOGITS.double().flip(0) / 2
    loss = ADVERSARIAL[kind, DiscriminatorOutput.SIGMOID]
    seen = real.sigmoid(), fake.sigmoid()
    wanted = expected_d(real, fake.float()), expected_g(real, fake.float())
    torch.testing.assert_close(loss.discriminator(*seen).float(), wanted[0].float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss.generator(*seen).float(), wanted[1].float(), rtol=1e-5, atol=1e-6)


def test_hinge_by_hand() -> None:
    """Only what is on the wrong side of ±1 counts: D(real) = 2 and D(fake) = -3 cost nothing."""
    loss = ADVERSARIAL[GanLoss.HINGE, DiscriminatorOutput.LOGITS]
    assert loss.discriminator(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])).item() == 0.25 + 0.75


def test_relativistic_compares_image_by_image() -> None:
    """The same outputs in another order are another loss, and only this game asks G for D(real)."""
    loss = ADVERSARIAL[GanLoss.RELATIVISTIC, DiscriminatorOutput.LOGITS]
    real, fake = torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])
    paired, crossed = loss.discriminator(real, fake), loss.discriminator(real, fake.flip(0))
    assert paired.item() == pytest.approx(0.6931472)
    assert crossed.item() == pytest.approx((2.126928 + 0.126928) / 2)
    needing = {kind for (kind, _), row in ADVERSARIAL.items() if row.needs_real}
    assert needing == {GanLoss.RELATIVISTIC}


@pytest.mark.parametrize("key", ADVERSARIAL)
def test_each_side_descends_where_it_should(key: tuple[GanLoss, DiscriminatorOutput]) -> None:
    """D raises its output on real images and lowers it on made ones; G raises it on made ones."""
    loss, outputs = ADVERSARIAL[key], torch.tensor([0.3, 0.6])
    real, fake = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    fake.grad = None
    loss.generator(real.detach(), fake).backward()
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("output", DiscriminatorOutput)
def test_minimax_leaves_a_losing_generator_without_a_gradient(output: DiscriminatorOutput) -> None:
    """Why the other form is called non-saturating: where D is sure, one is flat and the other steep."""
    slopes = {}
    for kind in (GanLoss.MINIMAX, GanLoss.NON_SATURATING):
        logits = torch.tensor([-10.0], requires_grad=True)
        fake = logits.sigmoid() if output is DiscriminatorOutput.SIGMOID else logits
        ADVERSARIAL[kind, output].generator(fake, fake).backward()
        slopes[kind] = logits.grad.item()
    assert slopes[GanLoss.MINIMAX] == pytest.approx(-4.54e-5, rel=1e-3)
    assert slopes[GanLoss.NON_SATURATING] == pytest.approx(-1, rel=1e-3)


def test_logits_do_not_overflow() -> None:
    """The logarithm of a sigmoid is -inf from -104 on in float32; softplus is exact."""
    loss = ADVERSARIAL[GanLoss.NON_SATURATING, DiscriminatorOutput.LOGITS]
    assert loss.generator(ZEROS, torch.tensor([-1e4])).item() == pytest.approx(1e4)


def test_probabilities_are_torchs_bce_down_to_the_last_saturated_one() -> None:
    """Values and gradients where float32 tells a probability from 0 and 1; beyond, the loss is finite."""
    loss = ADVERSARIAL[GanLoss.NON_SATURATING, DiscriminatorOutput.SIGMOID]
    outputs = torch.tensor([1e-30, 1e-6, 0.5, 1 - 1e-6])
    ours, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    loss.generator(ours, ours).backward()
    F.binary_cross_entropy(theirs, torch.ones(4)).backward()
    torch.testing.assert_close(ours.grad[1:], theirs.grad[1:])
    zeros = torch.zeros(2)
    assert loss.generator(zeros, zeros).item() == 100
    assert loss.discriminator(zeros, torch.ones(2)).item() == 200
    minimax = ADVERSARIAL[GanLoss.MINIMAX, DiscriminatorOutput.SIGMOID]
    assert minimax.generator(zeros, torch.ones(2)).item() == -100


def test_every_combination_that_the_spec_allows_has_a_row() -> None:
    """Wasserstein, hinge and relativistic compare unbounded outputs: the spec refuses a sigmoid for them."""
    logits = {(loss, DiscriminatorOutput.LOGITS) for loss in GanLoss}
    assert set(ADVERSARIAL) == logits | {(loss, DiscriminatorOutput.SIGMOID) for loss in BOUNDED}
