"""The diffusion transformer: its pieces are those of the paper, and a new one changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from torch import Tensor, nn

from models.networks.dit import Block, DiffusionTransformer, sine_features, sine_positions
from models.spec.diffusion import DitSpec

SPEC = DitSpec(patch_size=4, width=32, depth=2, heads=4)


def _network(
    spec: DitSpec = SPEC, *, resolution: int = 16, classes: int | None = None, trained: bool = True
) -> DiffusionTransformer:
    """A new network, or one whose weights are as if training had moved all of them."""
    torch.manual_seed(0)
    network = DiffusionTransformer(spec, 3, resolution, classes=classes)
    if trained:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_a_new_network_predicts_zero() -> None:
    images = torch.randn(2, 3, 16, 16)
    assert not _network(trained=False)(images, torch.tensor([3, 700])).any()


def test_a_new_block_returns_its_input() -> None:
    """adaLN-Zero (Peebles & Xie 2023, section 3.2): both gates start at 0, whatever the condition."""
    torch.manual_seed(0)
    block, tokens = Block(SPEC), torch.randn(2, 16, 32)
    assert torch.equal(block(tokens, torch.randn(2, 32)), tokens)


def test_a_new_network_learns() -> None:
    """Zero gates and a zero output must not be a saddle that no gradient leaves."""
    network = _network(classes=3, trained=False).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images, times, labels = torch.randn(2, 3, 16, 16), torch.tensor([3, 700]), torch.tensor([0, 3])
    for _ in range(4):
        loss = F.mse_loss(network(images, times, labels), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(("resolution", "patch_size"), [(16, 1), (16, 2), (32, 4), (64, 8), (128, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_square_that_the_patch_divides(resolution: int, patch_size: int, channels: int) -> None:
    spec = SPEC.model_copy(update={"patch_size": patch_size})
    network = DiffusionTransformer(spec, channels, resolution)
    images = torch.randn(2, channels, resolution, resolution)
    assert network(images, torch.tensor(5)).shape == images.shape
    assert network.positions.shape == ((resolution // patch_size) ** 2, 32)


def test_every_patch_is_put_back_where_it_was_cut() -> None:
    """A network that copies its patches makes the image itself; a transposed patch would be seen at once."""
    spec = DitSpec(patch_size=4, width=48, depth=1, heads=1)
    network = _network(spec, trained=False)
    with torch.no_grad():
        network.positions.zero_()
        network.patches.weight.copy_(torch.eye(48).reshape(48, 3, 4, 4))
        network.patches.bias.zero_()
        network.output.weight.copy_(torch.eye(48))
    images = torch.randn(2, 3, 16, 16)
    patches = F.unfold(images, 4, stride=4)
    normalised = F.layer_norm(patches.transpose(1, 2), (48,), eps=1e-6).transpose(1, 2)
    expected = F.fold(normalised, (16, 16), 4, stride=4)
    assert torch.allclose(network(images, torch.tensor(5)), expected, atol=1e-5)


def test_positions_are_diffusers_own() -> None:
    """Up to their order: diffusers writes the column first, and sines before cosines."""
    ours = sine_positions(4, 32)
    theirs = get_2d_sincos_pos_embed(32, 4, base_size=4, output_type="pt")
    columns, rows = theirs.chunk(2, dim=1)
    expected = torch.cat([half.roll(8, dims=1) for half in (rows, columns)], dim=1)
    assert torch.allclose(ours, expected.float(), atol=1e-6)


@pytest.mark.parametrize("times", [torch.tensor([0, 1, 999]), torch.tensor([-1.3, 0.25, 499.5])])
def test_times_are_embedded_as_by_diffusers(times: Tensor) -> None:
    expected = get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.allclose(sine_features(times, 256), expected, atol=1e-4)


def test_attention_is_that_of_torch() -> None:
    """nn.MultiheadAttention with the same weights."""
    torch.manual_seed(0)
    block, tokens = Block(SPEC), torch.randn(2, 5, 32)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.attention_input.weight)
        theirs.in_proj_bias.copy_(block.attention_input.bias)
        theirs.out_proj.load_state_dict(block.attention_output.state_dict())
    assert torch.allclose(block._attention(tokens), theirs(tokens, tokens, tokens)[0], atol=1e-6)


def test_a_block_is_that_of_the_paper() -> None:
    """x + α1·attention(γ1·norm(x) + β1), then the same with the MLP (Peebles & Xie 2023, figure 3)."""
    torch.manual_seed(0)
    block, tokens, condition = Block(SPEC), torch.randn(2, 5, 32), torch.randn(2, 32)
    nn.init.normal_(block.modulation.weight, std=0.1)
    beta1, gamma1, alpha1, beta2, gamma2, alpha2 = block.modulation(condition)[:, None].chunk(6, dim=2)
    norm = nn.LayerNorm(32, eps=1e-6, elementwise_affine=False)
    expected = tokens + alpha1 * block._attention((1 + gamma1) * norm(tokens) + beta1)
    expected = expected + alpha2 * block.mlp((1 + gamma2) * norm(expected) + beta2)
    assert torch.allclose(block(tokens, condition), expected, atol=1e-6)


def test_one_time_for_all_is_that_time_for_each() -> None:
    network, images = _network(), torch.randn(3, 3, 16, 16)
    assert torch.equal(network(images, torch.tensor(7)), network(images, torch.full((3,), 7)))
    assert torch.equal(network(images, torch.tensor(7.0)), network(images, torch.tensor(7)))
    assert not torch.allclose(network(images, torch.tensor(7.25)), network(images, torch.tensor(7)))


def test_the_place_of_a_patch_matters() -> None:
    """Without positions, moving the patches about would only move the prediction's."""
    network, images = _network(), torch.randn(1, 3, 16, 16)
    moved = images.roll(4, dims=3)
    assert not torch.allclose(
        network(moved, torch.tensor(5)).roll(-4, dims=3), network(images, torch.tensor(5))
    )


def test_labels_have_one_row_more_for_no_label() -> None:
    network, images = _network(classes=3), torch.randn(1, 3, 16, 16).expand(4, -1, -1, -1)
    assert network.labels.weight.shape == (4, 32)
    predictions = network(images, torch.tensor(5), torch.arange(4))
    assert len({float(prediction.detach().sum()) for prediction in predictions}) == 4
    with pytest.raises(ValueError, match="needs a label for each image"):
        network(images, torch.tensor(5))
    plain = _network()
    assert torch.equal(plain(images, torch.tensor(5), torch.arange(4)), plain(images, torch.tensor(5)))


def test_dropout_acts_in_training_only() -> None:
    network, images = _network(SPEC.model_copy(update={"dropout": 0.5})), torch.randn(2, 3, 16, 16)
    time = torch.tensor(5)
    assert torch.equal(network(images, time), network(images, time))
    network.train()
    assert not torch.allclose(network(images, time), network(images, time))


def test_a_network_on_meta_has_everything_to_be_filled() -> None:
    """Checkpoints fill a network built on meta from its state dict: what is not in there would stay empty."""
    with torch.device("meta"):
        empty = DiffusionTransformer(SPEC, 3, 16, classes=3)
    full = _network(classes=3)
    empty.load_state_dict(full.state_dict(), strict=True, assign=True)
    images, times, labels = torch.randn(2, 3, 16, 16), torch.tensor([3, 9]), torch.tensor([0, 3])
    assert torch.equal(empty.eval()(images, times, labels), full(images, times, labels))
