"""The noising processes against their papers, and the recipe that trains on them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.losses.denoising import weighted_mse
from models.networks import build_networks
from models.networks.noise_schedule import Edm
from models.presets import plan
from models.spec import BUILTIN_DATASETS, DiffusionSpec
from models.spec.diffusion import IN_TIMESTEPS, NoiseScheduleKind, Prediction
from models.training.diffusion import diffusion_recipe
from models.training.processes import PROCESSES, Process
from models.training.recipe import Recipe
from tests.models.sampling.ideal import MEAN, SPREAD, ideal, spec_of

KINDS = NoiseScheduleKind
EVERY = [
    *((kind, prediction) for kind in IN_TIMESTEPS for prediction in Prediction),
    (KINDS.EDM, None),
    (KINDS.FLOW, None),
]


def process_of(spec: DiffusionSpec) -> Process:
    return PROCESSES[spec.noise_schedule.kind](spec, torch.device("cpu"))


def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaussian(count: int, side: int = 8) -> tuple[Tensor, Tensor]:
    """Images of N(MEAN, SPREAD²), and noise."""
    drawn = torch.randn(2, count, 1, side, side, generator=source())
    return MEAN + SPREAD * drawn[0], drawn[1]


def test_factors_of_edm_are_those_of_the_paper() -> None:
    """Karras et al. 2022, table 1, last column, at a σ where each can be computed by hand."""
    edm, sigma = Edm.of(spec_of(KINDS.EDM, sigma_data=0.5)), torch.tensor(1.2, dtype=torch.float64)
    assert edm.c_skip(sigma).item() == pytest.approx(0.25 / 1.69)
    assert edm.c_out(sigma).item() == pytest.approx(1.2 * 0.5 / 1.3)
    assert edm.c_in(sigma).item() == pytest.approx(1 / 1.3)
    assert edm.c_noise(sigma).item() == pytest.approx(0.18232155679395 / 4)
    assert edm.loss_weight(sigma).item() == pytest.approx(1.69 / 0.36)


@pytest.mark.parametrize("sigma", [0.002, 0.2, 1.0, 80.0])
def test_edm_gives_the_network_inputs_and_targets_of_unit_variance(sigma: float) -> None:
    spec = spec_of(KINDS.EDM, sigma_data=0.5)
    drawn = torch.randn(2, 64, 1, 32, 32, generator=source())
    images, noise, times = 0.5 * drawn[0], drawn[1], torch.full((64,), sigma)
    process = process_of(spec)
    assert process.inputs(images, noise, times).var().item() == pytest.approx(1, abs=0.03)
    assert process.target(images, noise, times).var().item() == pytest.approx(1, abs=0.03)


def test_the_loss_of_edm_is_the_papers() -> None:
    """λ(σ)·|D(x0 + n; σ) - x0|² with D put together of the network by equation 7."""
    spec = spec_of(KINDS.EDM, sigma_data=0.5)
    edm, process, sigmas = Edm.of(spec), process_of(spec), torch.tensor([0.01, 0.3, 2.0, 50.0])
    images, noise, output = torch.randn(3, 4, 1, 8, 8, generator=source()).unbind()
    ours = weighted_mse(output, process.target(images, noise, sigmas), process.weight(sigmas))
    sigma = sigmas.view(-1, 1, 1, 1).double()
    denoised = edm.c_skip(sigma) * (images + sigma * noise) + edm.c_out(sigma) * output
    theirs = (edm.loss_weight(sigma) * (denoised - images) ** 2).mean()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=0)


def test_the_network_of_edm_is_asked_for_its_inputs_noise() -> None:
    """The input is c_in·(x0 + σ·ε), and the time told is ln(σ)/4."""
    process, (images, noise), sigmas = process_of(spec_of(KINDS.EDM, sigma_data=0.5)), gaussian(2), [0.1, 3.0]
    inputs = process.inputs(images, noise, torch.tensor(sigmas))
    for i, sigma in enumerate(sigmas):
        expected = (images[i] + sigma * noise[i]) / (sigma**2 + 0.25) ** 0.5
        torch.testing.assert_close(inputs[i], expected)
    torch.testing.assert_close(process.network_times(torch.tensor(sigmas)), torch.tensor(sigmas).log() / 4)


def test_a_flow_is_the_straight_path_and_its_target_the_paths_derivative() -> None:
    process, (images, noise) = process_of(spec_of(KINDS.FLOW)), gaussian(3)
    begin, middle, end = torch.zeros(3), torch.full((3,), 0.25), torch.ones(3)
    assert torch.equal(process.inputs(images, noise, begin), images)
    assert torch.equal(process.inputs(images, noise, end), noise)
    target = process.target(images, noise, middle)
    assert torch.equal(target, noise - images)
    torch.testing.assert_close(images + 0.25 * target, process.inputs(images, noise, middle))
    assert process.network_times(middle).tolist() == [250.0] * 3
    assert process.weight(middle).tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("kind", "inverse"), [(KINDS.EDM, torch.log), (KINDS.FLOW, torch.logit)], ids=["edm", "flow"]
)
def test_continuous_times_are_drawn_as_the_spec_says(kind: KINDS, inverse: Any) -> None:
    """ln σ, and the logit of t, are normal with the spec's mean and standard deviation."""
    process = process_of(spec_of(kind, time_mean=-0.7, time_std=0.4))
    drawn = inverse(process.draw_times(20_000, source()))
    assert drawn.mean().item() == pytest.approx(-0.7, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.4, abs=0.01)


def test_timesteps_are_all_as_likely() -> None:
    times = process_of(spec_of(KINDS.LINEAR, timesteps=20)).draw_times(20_000, source())
    assert times.bincount().tolist() == pytest.approx([1000] * 20, abs=150)  # 4.9 standard deviations


def test_weights_are_those_of_the_times_drawn() -> None:
    """Of ε min-SNR counts late times fully and early ones hardly."""
    raw = {
        "family": "diffusion",
        "loss": {"prediction": "epsilon", "weighting": "min_snr", "min_snr_gamma": 2.0},
    }
    spec = plan(raw, BUILTIN_DATASETS.get).spec
    assert isinstance(spec, DiffusionSpec)
    early, late = process_of(spec).weight(torch.tensor([0, 999])).tolist()
    assert early < 1e-3
    assert late == 1


@pytest.mark.parametrize(("kind", "prediction"), EVERY)
def test_the_ideal_network_has_the_least_loss(kind: KINDS, prediction: Prediction | None) -> None:
    """Input, time and target fit one another: no multiple of the best prediction, and no shift, is better."""
    spec = spec_of(kind, prediction)
    network, process, (images, noise) = ideal(spec), process_of(spec), gaussian(512)
    times = process.draw_times(512, source())
    best = network(process.inputs(images, noise, times), process.network_times(times))
    target = process.target(images, noise, times)
    loss = weighted_mse(best, target, process.weight(times))
    for worse in (0.9 * best, 1.1 * best, best + 0.05, best - 0.05):
        assert weighted_mse(worse, target, process.weight(times)) > loss


def recipe_of(spec: DiffusionSpec) -> Recipe:
    torch.manual_seed(0)
    return diffusion_recipe(spec, build_networks(spec), source())


def small_spec(kind: str, **fields: Any) -> DiffusionSpec:
    raw = {
        "family": "diffusion",
        "network": {"channels": 8, "multipliers": [1, 2], "norm_groups": 4},
        "noise_schedule": {"kind": kind},
        "batch_size": 16,
        "budget": {"steps": 10},
        "ema": {},
        "precision": "fp32",
        **fields,
    }
    spec = plan(raw, BUILTIN_DATASETS.get).spec
    assert isinstance(spec, DiffusionSpec)
    return spec


@pytest.mark.parametrize("conditional", [None, {"classes": 10}])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_have_the_batchs_loss(kind: KINDS, conditional: Any) -> None:
    """All that is random is drawn once a batch: accumulation changes nothing but rounding."""
    recipe = recipe_of(small_spec(kind.value, conditional=conditional))
    images, labels = torch.randn(16, 1, 16, 16, generator=source()), torch.arange(16) % 10
    batch = recipe.draw(images, labels)
    loss = recipe.phases[0].loss
    halves = [{name: tensor.chunk(2)[i] for name, tensor in batch.items()} for i in range(2)]
    with torch.no_grad():
        whole = loss(batch, 1)["loss/denoising"]
        parts = torch.stack([loss(half, 1)["loss/denoising"] for half in halves])
    torch.testing.assert_close(parts.mean(), whole)
    assert torch.equal(loss(batch, 1)["loss/denoising"], whole)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_repeatable_and_leaves_training_as_it_was(kind: KINDS) -> None:
    spec = small_spec(kind.value, conditional={"classes": 10})
    recipe = recipe_of(spec)
    images, labels = torch.randn(8, 1, 16, 16, generator=source()), torch.arange(8)
    state = torch.get_rng_state()
    with torch.no_grad():
        first = recipe.evaluate(images, labels, images, labels)
        again = recipe.evaluate(images, labels, images / 2, labels)
    assert set(first) == {"evaluation/denoising_held_out", "evaluation/denoising_trained"}
    assert torch.equal(first["evaluation/denoising_held_out"], first["evaluation/denoising_trained"])
    assert torch.equal(first["evaluation/denoising_held_out"], again["evaluation/denoising_held_out"])
    assert not torch.equal(first["evaluation/denoising_trained"], again["evaluation/denoising_trained"])
    assert torch.equal(torch.get_rng_state(), state)
    fresh = recipe_of(spec).draw(images, labels)
    assert all(torch.equal(fresh[name], tensor) for name, tensor in recipe.draw(images, labels).items())


def test_labels_are_dropped_by_chance_and_never_of_a_model_without() -> None:
    spec = small_spec("cosine", conditional={"classes": 10, "label_dropout": 0.25})
    images, labels = torch.zeros(4000, 1, 16, 16), torch.arange(4000) % 10
    told = recipe_of(spec).draw(images, labels)["labels"]
    dropped = told == 10
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(told[~dropped], labels[~dropped])
    assert "labels" not in recipe_of(small_spec("cosine")).draw(images[:4], labels[:4])


def test_a_conditional_network_learns_from_its_labels() -> None:
    """Its loss depends on them; the label that means none is one of its own."""
    spec = small_spec("cosine", conditional={"classes": 10, "label_dropout": 0})
    recipe = recipe_of(spec)
    batch = recipe.draw(torch.zeros(16, 1, 16, 16), torch.arange(16) % 10)
    losses = [
        recipe.phases[0].loss({**batch, "labels": labels}, 1)["loss/denoising"].item()
        for labels in (batch["labels"], (batch["labels"] + 1) % 10, torch.full((16,), 10))
    ]
    assert len(set(losses)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_is_learned(kind: KINDS) -> None:
    """A few steps on one image beat the start."""
    recipe = recipe_of(small_spec(kind.value))
    phase, image = recipe.phases[0], torch.full((16, 1, 16, 16), 0.5)
    optimizer = torch.optim.Adam(phase.network.parameters(), 2e-3)
    losses = []
    for step in range(1, 31):
        loss = phase.loss(recipe.draw(image, torch.zeros(16, dtype=torch.long)), step)["loss/denoising"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_losses_in_fp16_are_scaled() -> None:
    assert isinstance(recipe_of(small_spec("cosine", precision="fp16")).scaler, torch.amp.GradScaler)
    assert recipe_of(small_spec("cosine", precision="bf16")).scaler is None


def test_every_noise_schedule_has_a_process() -> None:
    assert set(PROCESSES) == set(KINDS)
