"""Each adversarial loss against torch's own formula, and what it pushes D's outputs to."""

import pytest
import torch
import torch.nn.functional as F

from models.losses.adversarial import ADVERSARIAL
from models.spec.gan import DiscriminatorOutput, GanLoss

LOGITS = torch.tensor([-30.0, -2.0, 0.0, 0.5, 7.0])


@pytest.mark.parametrize("output", DiscriminatorOutput)
def test_non_saturating_is_binary_cross_entropy(output: DiscriminatorOutput) -> None:
    loss = ADVERSARIAL[GanLoss.NON_SATURATING, output]
    real, fake = LOGITS, LOGITS.flip(0) / 2
    seen_real, seen_fake = (real, fake) if output == "logits" else (real.sigmoid(), fake.sigmoid())
    ones, zeros = torch.ones(5), torch.zeros(5)
    with_logits = F.binary_cross_entropy_with_logits
    expected = with_logits(real, ones) + with_logits(fake, zeros)
    torch.testing.assert_close(loss.discriminator(seen_real, seen_fake), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.generator(seen_fake), with_logits(fake, ones), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", ADVERSARIAL)
def test_each_side_descends_where_it_should(key: tuple[GanLoss, DiscriminatorOutput]) -> None:
    """D raises its output on real images and lowers it on made ones; G raises it on made ones."""
    loss, outputs = ADVERSARIAL[key], torch.tensor([0.3, 0.6])
    real, fake = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    fake.grad = None
    loss.generator(fake).backward()
    assert (fake.grad < 0).all()


def test_logits_do_not_overflow() -> None:
    """The logarithm of a sigmoid is -inf from -104 on in float32; softplus is exact."""
    loss = ADVERSARIAL[GanLoss.NON_SATURATING, DiscriminatorOutput.LOGITS]
    assert loss.generator(torch.tensor([-1e4])).item() == pytest.approx(1e4)


def test_probabilities_are_torchs_bce_down_to_the_last_saturated_one() -> None:
    """Values and gradients where float32 tells a probability from 0 and 1; beyond, the loss is finite."""
    loss = ADVERSARIAL[GanLoss.NON_SATURATING, DiscriminatorOutput.SIGMOID]
    outputs = torch.tensor([1e-30, 1e-6, 0.5, 1 - 1e-6])
    ours, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    loss.generator(ours).backward()
    F.binary_cross_entropy(theirs, torch.ones(4)).backward()
    torch.testing.assert_close(ours.grad[1:], theirs.grad[1:])
    assert loss.generator(torch.zeros(2)).item() == 100
    assert loss.discriminator(torch.zeros(2), torch.ones(2)).item() == 200


def test_every_combination_of_the_spec_has_a_row() -> None:
    assert set(ADVERSARIAL) == {(loss, output) for loss in GanLoss for output in DiscriminatorOutput}
