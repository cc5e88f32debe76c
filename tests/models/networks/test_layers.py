"""Norms and activations are torch's; attention and labels do what their papers write."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import (
    ACTIVATIONS,
    NORMS,
    ConditionalBatchNorm2d,
    LabelProjection,
    SelfAttention,
)
from models.spec.layers import Activation, Norm


def _maps() -> Tensor:
    torch.manual_seed(0)
    return 3 + 2 * torch.randn(5, 8, 4, 6)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (Norm.BATCH, lambda maps: F.batch_norm(maps, None, None, training=True)),
        (Norm.INSTANCE, F.instance_norm),
        (Norm.GROUP, lambda maps: F.group_norm(maps, 4)),
        (Norm.NONE, lambda maps: maps),
    ],
)
def test_norms_are_torchs(norm: Norm, expected: Callable[[Tensor], Tensor]) -> None:
    assert torch.allclose(NORMS[norm](8, 4)(_maps()), expected(_maps()), atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "dimensions"), [(Norm.BATCH, (0, 2, 3)), (Norm.INSTANCE, (2, 3)), (Norm.GROUP, (2, 3, 4))]
)
def test_each_norm_is_over_its_own_dimensions(norm: Norm, dimensions: tuple[int, ...]) -> None:
    """BatchNorm over the batch, InstanceNorm over one map, GroupNorm over the maps of a group."""
    normalised = NORMS[norm](8, 4)(_maps())
    if norm is Norm.GROUP:
        normalised = normalised.reshape(5, 4, 2, 4, 6)
    assert normalised.mean(dimensions).detach().numpy() == pytest.approx(0, abs=1e-5)
    assert normalised.var(dimensions, unbiased=False).detach().numpy() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("norm", [Norm.BATCH, Norm.INSTANCE, Norm.GROUP])
def test_every_norm_has_a_scale_and_a_shift(norm: Norm) -> None:
    layer = NORMS[norm](8, 4)
    with torch.no_grad():
        layer.weight.fill_(2)
        layer.bias.fill_(7)
    assert torch.allclose(layer(_maps()), 2 * NORMS[norm](8, 4)(_maps()) + 7, atol=1e-5)


def test_activations_are_as_defined() -> None:
    values = torch.tensor([-2.0, -0.5, 0.0, 3.0])
    expected = {
        Activation.LEAKY_RELU: [-0.4, -0.1, 0, 3],
        Activation.RELU: [0, 0, 0, 3],
        Activation.SILU: [x / (1 + math.exp(-x)) for x in values.tolist()],
    }
    for activation, wanted in expected.items():
        assert ACTIVATIONS[activation]()(values.clone()).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("activation", Activation)
def test_every_activation_can_follow_a_layer_in_training(activation: Activation) -> None:
    """One that overwrites what its own backward pass needs raises."""
    network = nn.Sequential(nn.Linear(3, 4), ACTIVATIONS[activation](), nn.Linear(4, 1))
    network(torch.randn(2, 3)).sum().backward()


def _attention(width: int = 16, gamma: float = 0.7) -> SelfAttention:
    torch.manual_seed(0)
    layer = SelfAttention(width)
    with torch.no_grad():
        layer.gamma.fill_(gamma)
    return layer


def _pooled(maps_CHW: Tensor) -> Tensor:
    """The largest of each 2 × 2 pixels, by loops."""
    channels, height, width = maps_CHW.shape
    pooled = torch.empty(channels, height // 2, width // 2)
    for row in range(height // 2):
        for column in range(width // 2):
            cell = maps_CHW[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pooled[:, row, column] = cell.amax(dim=(1, 2))
    return pooled


def test_attention_is_the_sum_that_the_paper_writes() -> None:
    """Zhang et al. 2019, equations 1 to 3, pixel by pixel."""
    layer, maps = _attention(), torch.randn(2, 16, 4, 6)

    def mixed(convolution: nn.Conv2d, maps_CHW: Tensor) -> Tensor:
        return torch.einsum("oc,chw->ohw", convolution.weight[:, :, 0, 0], maps_CHW)

    expected = torch.empty_like(maps)
    with torch.no_grad():
        for image, maps_CHW in enumerate(maps):
            queries = mixed(layer.query, maps_CHW)
            keys = _pooled(mixed(layer.key, maps_CHW)).reshape(2, -1)
            values = _pooled(mixed(layer.value, maps_CHW)).reshape(8, -1)
            attended = torch.zeros(8, 4, 6)
            for row in range(4):
                for column in range(6):
                    scores = [float(queries[:, row, column] @ keys[:, i]) for i in range(keys.shape[1])]
                    total = sum(math.exp(score) for score in scores)
                    for i, score in enumerate(scores):
                        attended[:, row, column] += math.exp(score) / total * values[:, i]
            expected[image] = maps_CHW + 0.7 * mixed(layer.output, attended)
    assert torch.allclose(layer(maps), expected, atol=1e-5)


def test_new_attention_returns_its_input() -> None:
    """γ = 0, so that a network learns from its neighbours first; but γ has a gradient."""
    layer, maps = SelfAttention(16), torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(maps), maps)
    layer(maps).square().sum().backward()
    assert layer.gamma.grad.abs() > 0


def test_attention_has_second_derivatives() -> None:
    """A gradient penalty on a discriminator with attention needs them; torch's fused attention has none."""
    layer, maps = _attention().double(), torch.randn(1, 16, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, maps, atol=1e-4)


@pytest.mark.parametrize("width", [1, 4])
def test_attention_works_on_the_narrowest_maps(width: int) -> None:
    assert _attention(width)(torch.randn(2, width, 4, 4)).shape == (2, width, 4, 4)


def test_conditional_batch_norm_has_a_scale_and_a_shift_of_each_class() -> None:
    layer, labels = ConditionalBatchNorm2d(8, 3), torch.tensor([0, 2, 2, 1, 0])
    plain = nn.BatchNorm2d(8)
    assert torch.allclose(layer(_maps(), labels), plain(_maps()), atol=1e-6)  # scale 1 and shift 0 at first
    with torch.no_grad():
        layer.scale.weight.copy_(torch.arange(24.0).reshape(3, 8))
        layer.shift.weight.copy_(-torch.arange(24.0).reshape(3, 8))
    scaled, normalised = layer(_maps(), labels), plain(_maps())
    for image, label in enumerate(labels.tolist()):
        number = 8 * label + torch.arange(8.0)[:, None, None]
        assert torch.allclose(scaled[image], number * normalised[image] - number, atol=1e-4)
    assert torch.allclose(layer.running_mean, plain.running_mean)


def test_the_projection_is_an_inner_product_with_the_summed_map() -> None:
    """Miyato & Koyama 2018, equation 8."""
    layer, labels = LabelProjection(3, 8), torch.tensor([0, 2, 2, 1, 0])
    expected = [
        (layer.weight[label] @ maps.flatten(1).sum(1)).item()
        for label, maps in zip(labels, _maps(), strict=True)
    ]
    assert layer(_maps(), labels).tolist() == pytest.approx(expected, rel=1e-4)
