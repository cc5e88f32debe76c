"""The bad outcome behind each refusal and warning, where it can be shown in a moment."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data import open_dataset
from models.losses.adversarial import ADVERSARIAL
from models.losses.penalties import PENALTIES
from models.spec.evaluation import FEATURES, ExtractorKind
from models.spec.gan import DiscriminatorOutput, GanLoss, Penalty
from models.spec.gan_rules import SMALLEST_NORMALISED_BATCH


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("loss", [GanLoss.WASSERSTEIN, GanLoss.HINGE, GanLoss.RELATIVISTIC])
def test_a_sigmoid_takes_the_gradient_of_losses_that_compare_scores(loss: GanLoss) -> None:
    """discriminator.output: a D that is sure of its images moves no weight of G any more."""
    game = ADVERSARIAL[loss, DiscriminatorOutput.LOGITS]

    def gradient(output: Callable[[Tensor], Tensor]) -> float:
        scores = torch.full((4,), -20.0, requires_grad=True)
        if loss is GanLoss.RELATIVISTIC:
            game.generator(output(torch.full((4,), 20.0)), output(scores)).backward()
        else:
            game.generator(torch.empty(0), output(scores)).backward()
        return float(scores.grad.abs().sum())

    assert gradient(lambda scores: scores) > 0.5
    assert gradient(torch.sigmoid) < 1e-6


def critic(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), norm, nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(8 * 36, 1), nn.Flatten(0)
    )


@pytest.mark.parametrize(
    ("norm", "coupled"),
    [
        (nn.BatchNorm2d(8), True),
        (nn.InstanceNorm2d(8), False),
        (nn.GroupNorm(2, 8), False),
        (nn.Identity(), False),
    ],
)
def test_batch_norm_makes_an_images_gradient_depend_on_the_others(norm: nn.Module, coupled: bool) -> None:
    """discriminator.norm: a penalty on each image's gradient then penalises something else."""
    network = critic(norm)

    def gradient_of_the_first(others: Tensor) -> Tensor:
        images = torch.cat([first, others]).requires_grad_()
        (slopes,) = torch.autograd.grad(network(images)[0], images)
        assert coupled or slopes[1:].abs().max() == 0
        return slopes[0]

    first = torch.randn(1, 1, 8, 8)
    one, other = (gradient_of_the_first(torch.randn(7, 1, 8, 8)) for _ in range(2))
    assert torch.allclose(one, other, atol=1e-6) is not coupled


def test_the_statistics_of_a_tiny_batch_are_noise() -> None:
    """batch_size: the mean of two images misses the true one by more than half of their spread."""

    def error(batch: int) -> float:
        return float(torch.randn(10_000, batch).mean(dim=1).std())

    assert error(2) > 0.6
    assert error(SMALLEST_NORMALISED_BATCH) < 0.4
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3)(torch.randn(1, 3))


def test_two_constraints_of_a_critic_bind_one_another() -> None:
    """loss.kind: weights of ±0.01 cannot reach the slope of 1 that the gradient penalty asks for."""
    network = critic(nn.Identity())
    with torch.no_grad():
        for weights in network.parameters():
            weights.clamp_(-0.01, 0.01)
    images = torch.randn(16, 1, 8, 8)
    penalty = PENALTIES[Penalty.GRADIENT_PENALTY](network, images, torch.randn_like(images), torch.rand(16))
    assert penalty > 0.9  # as if D were flat: (0 - 1)²


def test_clipping_the_norm_of_clipped_weights_changes_the_length_of_every_step() -> None:
    """clip_grad_norm with weight_clip: beside it a rate of any size moves the weights by the same length."""
    network = critic(nn.Identity())
    lengths = []
    for scale in (1.0, 100.0):
        network.zero_grad()
        (scale * network(torch.ones(4, 1, 8, 8)).sum()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        lengths.append(nn.utils.get_total_norm([weights.grad for weights in network.parameters()]).item())
    assert lengths == pytest.approx([1, 1], rel=1e-3)


def test_weight_decay_does_nothing_to_a_normalised_weight() -> None:
    """weight_decay with spectral_norm: whatever the weight decays to, the layer computes the same."""
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)).eval()
    images = torch.randn(4, 8)
    before = layer(images)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(0.5)
    torch.testing.assert_close(layer(images), before)


def test_few_samples_have_no_covariance_of_full_rank() -> None:
    """evaluation.samples: FID takes the root of a matrix that says nothing about the other dimensions."""
    dimensions = FEATURES[ExtractorKind.CLASSIFIER]

    def rank(samples: int) -> int:
        features = np.random.default_rng(0).normal(size=(samples, dimensions))
        return int(np.linalg.matrix_rank(np.cov(features, rowvar=False)))

    assert rank(20) == 19
    assert rank(10 * dimensions) == dimensions


def test_groups_that_do_not_divide_a_width_are_no_groups() -> None:
    """norm_groups: torch refuses them when the network is built, hours after the job was queued."""
    with pytest.raises(ValueError, match="divisible"):
        nn.GroupNorm(8, 12)


def test_mirrored_digits_are_others() -> None:
    """horizontal_flip: to who knows digits upright, mirrored ones are mostly something else."""
    packed = open_dataset("digits")
    images = packed.images.reshape(packed.count, 16, 16).astype(float) / 255
    means = np.stack([images[packed.labels == digit].mean(axis=0) for digit in range(10)])

    def right(shown: np.ndarray) -> float:
        distances = ((shown[:, None] - means[None]) ** 2).sum(axis=(2, 3))
        return float((distances.argmin(axis=1) == packed.labels).mean())

    assert right(images) > 0.85
    assert right(images[:, :, ::-1]) < 0.6


def test_blends_of_two_images_are_no_images_of_the_data() -> None:
    """mixup: half of one and half of another has greys that no digit's outline has, and is learnt as one."""
    packed = open_dataset("digits")
    images = packed.images.astype(float) / 255

    def nearest(shown: np.ndarray) -> float:
        """Mean distance to the nearest of the other images."""
        distances = ((shown[:, None] - images[None, 200:1200]) ** 2).sum(axis=(2, 3, 4))
        return float(np.sqrt(distances.min(axis=1)).mean())

    assert nearest((images[:100] + images[100:200]) / 2) > 1.1 * nearest(images[:100])


@pytest.mark.slow
def test_compiled_networks_have_no_second_derivative() -> None:
    """compile: a penalty is a derivative of a derivative."""
    network = critic(nn.Identity())
    compiled = torch.compile(network)
    images = torch.randn(4, 1, 8, 8)
    try:
        compiled(images)
    except (RuntimeError, OSError) as error:  # no compiler
        pytest.skip(f"nothing is compiled here: {error}")
    penalty = PENALTIES[Penalty.R1]
    penalty(network, images, images, torch.rand(4)).backward()
    with pytest.raises(RuntimeError, match="double backward"):
        penalty(compiled, images, images, torch.rand(4)).backward()
