"""What a GAN's networks are shown and asked, and what holds their weights, technique by technique."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.spec import GanSpec
from models.training.entry import build_recipe
from models.training.gan_game import Game
from models.training.means import Means
from models.training.update import one_step
from tests.models.training.gans import ADAM, CPU, Images, SameImages, gradients, per_image, train

EVERYTHING = ["colour", "translation", "cutout", "rotation", "scale", "horizontal_flip"]
DIFFAUGMENT = {"kind": "diffaugment", "policy": EVERYTHING}


class Asked(nn.Module):
    """A network that answers by a function and remembers what it was asked."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.factor, self._answer = nn.Parameter(torch.ones(())), answer
        self.inputs: list[Tensor] = []
        self.labels: list[Tensor | None] = []

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        self.inputs.append(inputs.detach())
        self.labels.append(labels)
        return self.factor * self._answer(inputs)


def brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def played(spec: GanSpec, made: Tensor) -> tuple[dict[str, Tensor], Asked, Asked]:
    """Losses of one step of a game whose generator makes `made`, and the two networks."""
    generator, discriminator = Asked(lambda _: made), Asked(brightness)
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    game = Game(spec, networks, torch.Generator().manual_seed(0))
    batch = game.draw(*SameImages().next())
    losses = game.discriminator_loss(batch, 1) | game.generator_loss(batch, 1)
    return losses, generator, discriminator


def test_real_and_made_images_are_augmented_alike_in_both_phases() -> None:
    """Where G makes the very images of the batch, D sees three times the same, and not the images."""
    images = SameImages().next()[0]
    _, _, discriminator = played(per_image(discriminator_augmentation=DIFFAUGMENT), images)
    real, fake, of_generator = discriminator.inputs
    assert torch.equal(real, fake)
    assert torch.equal(real, of_generator)
    changed = (real != images).flatten(1).any(dim=1)
    assert changed.all()
    _, _, plain = played(per_image(), images)
    assert all(torch.equal(seen, images) for seen in plain.inputs)


def test_cutout_is_of_the_pictures_own_range() -> None:
    """Black of [0, 1] is 0: translated images show no value below it."""
    spec = per_image(
        data={"range": [0, 1]}, discriminator_augmentation={"kind": "diffaugment", "policy": ["translation"]}
    )
    _, _, discriminator = played(spec, torch.full((16, 1, 16, 16), 0.5))
    assert discriminator.inputs[1].unique().tolist() == [0.0, 0.5]


def test_generators_gradient_passes_through_the_augmentation() -> None:
    """Cutout hides pixels from D: they pull G nowhere, the others do."""
    spec = per_image(discriminator_augmentation={"kind": "diffaugment", "policy": ["cutout"]})
    made = torch.zeros(16, 1, 16, 16, requires_grad=True)
    losses, _, _ = played(spec, made)
    losses["loss/generator"].backward()
    assert made.grad is not None
    hidden = (made.grad == 0).flatten(1).float().mean(1)
    assert (hidden > 0).all()
    assert (hidden < 0.5).all()


@pytest.mark.parametrize("output", ["logits", "sigmoid"])
def test_ada_follows_ds_outputs_on_real_images(output: str) -> None:
    """A D that is sure of its images raises the probability, by 64 of 640 images behind the fourth step."""
    spec = per_image(
        discriminator={"output": output},
        discriminator_augmentation={"kind": "ada", "adjustment_images": 640},
    )
    for sure, expected in ((True, 0.1), (False, 0.0)):
        recipe, means = build_recipe(spec, CPU), Means()
        for parameter in recipe.networks["discriminator"].parameters():
            parameter.data.zero_()
        bias = recipe.networks["discriminator"].main[-1].bias
        bias.data.fill_(5.0 if sure else -5.0)
        for step in range(1, 6):
            one_step(spec, recipe, Images(), step, means, measure=False)
            reported = means.read()["augmentation/probability"]
        assert recipe.state["ada/probability"].item() == pytest.approx(expected)
        assert reported == pytest.approx(expected)


def test_state_of_ada_is_what_a_resumed_run_goes_on_from() -> None:
    """A recipe whose state is filled in place, as a resume does, goes on as the first would have."""
    spec = per_image(discriminator_augmentation={"kind": "ada", "target": 0.01, "adjustment_images": 64})
    first, second = train(spec, 5)[0], build_recipe(spec, CPU)
    assert not build_recipe(per_image(), CPU).state
    for name, tensor in second.state.items():
        tensor.copy_(first.state[name])
    for name, network in second.networks.items():
        network.load_state_dict(first.networks[name].state_dict())
    batch = first.draw(*Images().next())
    losses = [recipe.phases[0].loss(dict(batch), 6) for recipe in (first, second)]
    assert {name: value.item() for name, value in losses[0].items()} == {
        name: value.item() for name, value in losses[1].items()
    }


def test_labels_of_the_images_are_those_of_the_made_ones() -> None:
    images, labels = SameImages().next()
    _, generator, discriminator = played(per_image(conditional={}), images)
    asked = [*generator.labels, *discriminator.labels]
    assert len(asked) == 4
    assert all(given is not None and torch.equal(given, labels) for given in asked)
    _, generator, discriminator = played(per_image(), images)
    assert {*generator.labels, *discriminator.labels} == {None}


def test_evaluation_has_the_labels_of_its_images() -> None:
    """Mean outputs of the two groups of images, each with its own labels."""
    recipe = build_recipe(per_image(conditional={}, optimizer=ADAM), CPU)
    discriminator = recipe.networks["discriminator"]
    (held_out, held_out_labels), (trained, trained_labels) = Images().next(), SameImages(8).next()
    with torch.no_grad():
        scores = recipe.evaluate(held_out, held_out_labels, trained, trained_labels)
        expected = {
            "evaluation/output_held_out": discriminator(held_out, held_out_labels).mean(),
            "evaluation/output_trained": discriminator(trained, trained_labels).mean(),
        }
    assert scores == expected


def test_evaluation_changes_nothing_that_training_goes_on_with() -> None:
    """Neither BatchNorm's statistics nor, by dropout, torch's random numbers; and it drops nothing."""
    recipe = build_recipe(per_image(discriminator={"dropout": 0.5, "norm": "batch"}), CPU)
    discriminator, batch = recipe.networks["discriminator"], Images().next()
    state, numbers = copy.deepcopy(discriminator.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        first, second = (recipe.evaluate(*batch, *batch) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(value, state[name]) for name, value in discriminator.state_dict().items())
    assert all(layer.training for layer in discriminator.modules())


def test_relativistic_generator_is_compared_with_real_images_without_their_graph() -> None:
    images = SameImages().next()[0]
    made = (0.5 * images).requires_grad_()
    losses, _, discriminator = played(per_image(loss={"kind": "relativistic"}), made)
    difference = brightness(images) - brightness(made)
    expected = nn.functional.softplus(difference).mean()
    torch.testing.assert_close(losses["loss/generator"], expected)
    assert len(discriminator.inputs) == 4
    _, _, plain = played(per_image(), made)
    assert len(plain.inputs) == 3


def test_discriminator_is_updated_several_times_for_one_of_the_generator() -> None:
    """On new images and new latents each time; a step is an update of D."""
    updates = gradients(per_image(discriminator_steps=3), 7)
    assert {name: len(each) for name, each in updates.items()} == {"discriminator": 7, "generator": 2}


@pytest.mark.parametrize("every", [1, 2])
def test_weights_are_clipped_after_every_update_of_d(every: int) -> None:
    """Of the loss and of a lazy penalty; biases, too, as in the authors' code; G's never."""
    spec = per_image(
        discriminator={"weight_clip": 0.01},
        penalties=[{"kind": "r1", "weight": 10.0, "every": every}],
        optimizer={**ADAM, "learning_rate": 0.1},
    )
    networks = train(spec, 2)[0].networks
    largest = {
        name: [parameter.abs().max().item() for parameter in network.parameters()]
        for name, network in networks.items()
    }
    assert max(largest["discriminator"]) == pytest.approx(0.01)
    assert all(value <= 0.0100001 for value in largest["discriminator"])
    assert min(largest["generator"]) > 0.01


def singular_values(network: nn.Module) -> list[float]:
    """The largest of each layer's weight, as a matrix of its outputs by all else."""
    weights = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            weights.append(layer.weight.flatten(1))
        elif isinstance(layer, nn.ConvTranspose2d):
            weights.append(layer.weight.transpose(0, 1).flatten(1))
    return [torch.linalg.matrix_norm(weight.detach(), 2).item() for weight in weights]


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_spectral_norm_is_kept_while_the_weights_move(name: str) -> None:
    """After 30 large updates every largest singular value is 1; without, they are not."""
    fast = {**ADAM, "learning_rate": 5e-3}
    spec = per_image(**{name: {"spectral_norm": True}}, optimizer=fast, ema={"half_life_images": 64})
    normed = singular_values(train(spec, 30)[0].networks[name])
    assert normed == pytest.approx([1.0] * len(normed), abs=0.05)
    plain = singular_values(train(per_image(optimizer=fast), 30)[0].networks[name])
    assert plain != pytest.approx([1.0] * len(plain), abs=0.5)


def test_spectral_norms_are_iterated_once_an_update() -> None:
    """Not at every forward pass, of which D's phase has two: else a penalty would see other weights."""
    spec = per_image(
        discriminator={"spectral_norm": True},
        penalties=[{"kind": "r1", "every": 2}],
        optimizer={"learning_rate": 1e-30},
    )
    recipe, stream, means = build_recipe(spec, CPU), Images(), Means()
    weight = recipe.networks["discriminator"].main[0].parametrizations.weight
    u, v = (dict(weight.named_buffers())[f"0.norm.{name}"] for name in ("_u", "_v"))
    matrix = weight.original.detach().flatten(1)
    with torch.no_grad():
        u.copy_(nn.functional.normalize(torch.arange(1.0, len(u) + 1), dim=0))
        v.copy_(nn.functional.normalize(matrix.T @ u, dim=0))
    expected = u.clone()
    for step, updates in ((1, 1), (2, 2)):
        one_step(spec, recipe, stream, step, means, measure=False)
        for _ in range(updates):
            behind = nn.functional.normalize(matrix.T @ expected, dim=0)
            expected = nn.functional.normalize(matrix @ behind, dim=0)
        torch.testing.assert_close(u, expected, rtol=1e-4, atol=1e-5)


def test_fp16_scales_its_losses_and_learns_what_fp32_does() -> None:
    """Penalties are in float32 inside, so that the losses of three steps agree to float16's 11 bits."""
    techniques = {"penalties": [{"kind": "r1", "weight": 2.0}, {"kind": "r2", "every": 2}]}
    half, full = (per_image(precision=precision, **techniques) for precision in ("fp16", "fp32"))
    recipe, means = train(half, 3)
    assert recipe.scaler is not None
    assert recipe.scaler.get_scale() > 1
    assert build_recipe(full, CPU).scaler is None
    expected = train(full, 3)[1].read()
    assert means.read() == pytest.approx(expected, rel=0.02, abs=0.02)
