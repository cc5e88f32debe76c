"""Spectral norm: the largest singular value is 1, a forward pass changes nothing, and it can be taken out."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from models.networks.discriminator import DCGANDiscriminator
from models.networks.layers import LabelProjection
from models.networks.spectral import add_spectral_norm, iterate_spectral_norms, plain_state_dict
from models.spec.gan import DiscriminatorSpec

SPEC = DiscriminatorSpec(ndf=8, attention_resolutions=(8,))


def _discriminator(*, normalised: bool = True) -> DCGANDiscriminator:
    torch.manual_seed(0)
    network = DCGANDiscriminator(SPEC, 1, 32, classes=4)
    if normalised:
        add_spectral_norm(network)
    return network


def _largest(weight: Tensor, *, dim: int = 0) -> float:
    return float(torch.linalg.svdvals(weight.detach().movedim(dim, 0).flatten(1))[0])


@pytest.mark.parametrize(
    ("layer", "dim"),
    [
        (nn.Conv2d(6, 5, 3), 0),
        (nn.ConvTranspose2d(6, 5, 4), 1),
        (nn.Linear(7, 9), 0),
        (LabelProjection(4, 6), 0),
    ],
    ids=["convolution", "transposed", "linear", "projection"],
)
def test_the_largest_singular_value_becomes_one(layer: nn.Module, dim: int) -> None:
    """By the rows of outputs, which are the second dimension of a transposed convolution's weight."""
    torch.manual_seed(0)
    with torch.no_grad():
        layer.weight.mul_(7)
    layer = add_spectral_norm(copy.deepcopy(layer))
    for _ in range(100):
        iterate_spectral_norms(layer)
    assert _largest(layer.weight, dim=dim) == pytest.approx(1, abs=1e-4)


def test_a_new_norm_is_already_close() -> None:
    """Without first iterations the first updates would act on weights divided by next to nothing."""
    network = _discriminator()
    for layer in network.main:
        if isinstance(layer, nn.Conv2d):
            assert _largest(layer.weight) == pytest.approx(1, abs=0.1)


def test_every_weight_is_normalised() -> None:
    """A single layer left out, and nothing bounds the slope of the whole."""
    names = [name for name, weight in _discriminator().named_parameters() if weight.ndim > 1]
    assert all(name.endswith("parametrizations.weight.original") for name in names)
    assert len(names) == 4 + 4 + 1  # main, attention, projection


def test_only_an_iteration_changes_the_estimate() -> None:
    """D(real), D(fake) and G's pass of one step must see the same weights, whatever mode is set."""
    network = _discriminator().eval().train()
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    before = {key: tensor.clone() for key, tensor in network.state_dict().items() if "._" in key}
    network(images, labels)
    with torch.no_grad():
        network(images, labels)
    after = network.state_dict()
    assert before
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    iterate_spectral_norms(network)
    assert not all(torch.equal(network.state_dict()[key], tensor) for key, tensor in before.items())
    network(images, labels)
    assert network.training


def test_an_iteration_is_one_of_torchs() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 4)
    theirs = copy.deepcopy(layer)
    torch.manual_seed(1)
    add_spectral_norm(layer)
    torch.manual_seed(1)
    parametrizations.spectral_norm(theirs)
    for _ in range(3):
        iterate_spectral_norms(layer)
        expected = theirs.train().weight  # torch's: reading it iterates
        assert torch.equal(layer.weight, expected)


def test_the_gradient_is_torchs() -> None:
    """It flows through the singular value, too (Miyato et al. 2018, equation 12)."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 4)
    theirs = copy.deepcopy(layer)
    torch.manual_seed(1)
    add_spectral_norm(layer)
    torch.manual_seed(1)
    parametrizations.spectral_norm(theirs).eval()
    inputs = torch.randn(3, 5)
    layer(inputs).square().sum().backward()
    theirs(inputs).square().sum().backward()
    ours = layer.parametrizations.weight.original.grad
    assert torch.equal(ours, theirs.parametrizations.weight.original.grad)
    assert ours.abs().sum() > 0


def test_two_passes_can_be_walked_back_after_an_iteration() -> None:
    """G's graph is built in D's phase and walked in its own, between which G's norms may move."""
    network = _discriminator()
    score = network(torch.randn(4, 1, 32, 32), torch.zeros(4, dtype=torch.long)).sum()
    iterate_spectral_norms(network)
    score.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_bfloat16_does_not_reach_the_estimate() -> None:
    """In bfloat16 a singular value is wrong by up to 0.4 %, and on a GPU torch's norm raises."""
    layer = add_spectral_norm(nn.Linear(50, 60))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer.weight
        iterate_spectral_norms(layer)
        assert layer(torch.ones(2, 50)).dtype is torch.bfloat16
    assert inside.dtype is torch.float32
    assert not torch.equal(inside, layer.weight)


def test_a_copy_has_its_own_weights_and_estimates() -> None:
    """The average of the weights is a deep copy that is updated in place."""
    network = _discriminator()
    averaged = copy.deepcopy(network)
    images, labels = torch.randn(4, 1, 32, 32), torch.zeros(4, dtype=torch.long)
    expected = network.eval()(images, labels)
    assert torch.equal(averaged.eval()(images, labels), expected)
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.normal_()
    iterate_spectral_norms(averaged)
    assert torch.equal(network(images, labels), expected)
    assert len(list(averaged.buffers())) == len(list(network.buffers()))


def test_the_plain_state_dict_is_that_of_the_same_function() -> None:
    network = _discriminator().eval()
    iterate_spectral_norms(network)
    plain = _discriminator(normalised=False).eval()
    state = plain_state_dict(network)
    plain.load_state_dict(state, strict=True)
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    assert torch.equal(plain(images, labels), network(images, labels))
    assert not any(tensor.requires_grad for tensor in state.values())


def test_a_plain_network_keeps_its_state_dict() -> None:
    network = _discriminator(normalised=False)
    state = network.state_dict()
    assert plain_state_dict(network).keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in plain_state_dict(network).items())


def test_a_saved_state_goes_on_exactly() -> None:
    """A resumed training has the vectors of the power iteration where they were."""
    network, other = _discriminator(), _discriminator()
    iterate_spectral_norms(network)
    other.load_state_dict(network.state_dict(), strict=True)
    iterate_spectral_norms(network)
    iterate_spectral_norms(other)
    state = other.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
