"""Each penalty against discriminators whose gradient is known, and WGAN-GP's formula written by hand."""

import pytest
import torch
from torch import Tensor, nn

from models.losses.penalties import PENALTIES
from models.spec.gan import Penalty

SHAPE = (1, 4, 4)


def images(seed: int, count: int = 6) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, FAKE, MIX = images(0), images(1), torch.rand(6, generator=torch.Generator().manual_seed(2)).double()
WEIGHTS = images(3, count=1)[0] / 3


def linear(batch: Tensor) -> Tensor:
    """w·x, whose gradient is w everywhere."""
    return (batch * WEIGHTS).sum((1, 2, 3))


def quadratic(batch: Tensor) -> Tensor:
    """½|x|², whose gradient is x."""
    return 0.5 * batch.square().sum((1, 2, 3))


def test_of_a_linear_discriminator() -> None:
    """R1 and R2 are ½|w|², the gradient penalty (|w| - 1)²."""
    squared = WEIGHTS.square().sum().item()
    expected = {
        Penalty.R1: squared / 2,
        Penalty.R2: squared / 2,
        Penalty.GRADIENT_PENALTY: (squared**0.5 - 1) ** 2,
    }
    values = {kind: PENALTIES[kind](linear, REAL, FAKE, MIX).item() for kind in Penalty}
    assert values == pytest.approx(expected, rel=1e-12)


def test_of_a_quadratic_discriminator() -> None:
    """The gradient is the image itself: so it shows at which image each penalty takes it."""
    mixed = MIX.view(-1, 1, 1, 1) * REAL + (1 - MIX.view(-1, 1, 1, 1)) * FAKE
    expected = {
        Penalty.R1: REAL.square().sum((1, 2, 3)).mean().item() / 2,
        Penalty.R2: FAKE.square().sum((1, 2, 3)).mean().item() / 2,
        Penalty.GRADIENT_PENALTY: (mixed.flatten(1).norm(dim=1) - 1).square().mean().item(),
    }
    values = {kind: PENALTIES[kind](quadratic, REAL, FAKE, MIX).item() for kind in Penalty}
    assert values == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", Penalty)
def test_gradients_of_the_weights_are_those_of_the_closed_form(kind: Penalty) -> None:
    """The second derivative: of ½|w|² it is w, of (|w| - 1)² it is 2(|w| - 1)·w/|w|."""
    weights = WEIGHTS.clone().requires_grad_()
    PENALTIES[kind](lambda batch: (batch * weights).sum((1, 2, 3)), REAL, FAKE, MIX).backward()
    norm = WEIGHTS.norm()
    expected = 2 * (norm - 1) * WEIGHTS / norm if kind is Penalty.GRADIENT_PENALTY else WEIGHTS
    torch.testing.assert_close(weights.grad, expected, rtol=1e-12, atol=1e-12)


def test_gradient_penalty_is_wgan_gps_own_formula() -> None:
    """Algorithm 1 of Gulrajani et al. 2017 for a small network, one image after another."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(16, 1)).double()
    total = torch.zeros((), dtype=torch.float64)
    for real, fake, mix in zip(REAL, FAKE, MIX, strict=True):
        between = (mix * real + (1 - mix) * fake)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
        total = total + (gradient.square().sum().sqrt() - 1) ** 2
    total = total / len(REAL)
    ours = PENALTIES[Penalty.GRADIENT_PENALTY](lambda x: network(x).flatten(), REAL, FAKE, MIX)
    torch.testing.assert_close(ours, total, rtol=1e-12, atol=0)
    first = next(network.parameters())
    expected = torch.autograd.grad(total, first)[0]
    torch.testing.assert_close(torch.autograd.grad(ours, first)[0], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", Penalty)
def test_no_gradient_reaches_the_images(kind: Penalty) -> None:
    """D's penalty must not walk back through the generator that made the images."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    weights = WEIGHTS.clone().requires_grad_()
    PENALTIES[kind](lambda batch: (batch.square() * weights).sum((1, 2, 3)), real, fake, MIX).backward()
    assert real.grad is None
    assert fake.grad is None


@pytest.mark.parametrize("kind", Penalty)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_penalties_are_in_float32_under_autocast(kind: Penalty, dtype: torch.dtype) -> None:
    """To the last bit: no convolution inside runs in the lower precision."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(16, 1))
    arguments = REAL.float(), FAKE.to(dtype), MIX.float()
    expected = PENALTIES[kind](lambda x: network(x).flatten(), *arguments)
    with torch.autocast("cpu", dtype):
        value = PENALTIES[kind](lambda x: network(x).flatten(), *arguments)
    assert value.dtype is torch.float32
    assert value.item() == expected.item()


def test_every_kind_of_the_spec_has_a_row() -> None:
    assert set(PENALTIES) == set(Penalty)
