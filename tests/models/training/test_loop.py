"""The loop: what it tells, that it repeats itself exactly, and that each of its parts does something."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.data import PackedDataset
from models.spec import JobSpec, load_spec
from models.training import (
    ClassifierTrained,
    Evaluated,
    Event,
    Finished,
    Progress,
    Sampled,
    Saved,
    Started,
    TrainingError,
    train,
)
from models.training.entry import build_recipe
from models.training.loop import Trial, run
from models.training.means import Means
from models.training.recipe import Batch
from models.training.update import one_step
from tests.models.training.specs import folders, small

PRESETS = ["dcgan", "dcgan-vanilla", "ddpm"]
NO_IMAGES = (torch.zeros(0, 1, 16, 16), torch.zeros(0, dtype=torch.long))
NOTHING_HELD_OUT = Trial(NO_IMAGES, NO_IMAGES)


def losses(events: list[Event]) -> list[tuple[int, dict[str, float]]]:
    """The metrics by step, but for the process's most memory so far, which other tests have a part in."""
    told = [event for event in events if isinstance(event, Progress) and event.metrics]
    return [
        (event.step, {key: value for key, value in event.metrics.items() if not key.startswith("memory/")})
        for event in told
    ]


def hashes(events: list[Event]) -> list[str]:
    return [event.sha256 for event in scheduled(events)]


def scheduled(events: list[Event]) -> list[Saved]:
    """The checkpoints that the spec asks for, whatever a slow machine saved besides."""
    return [event for event in events if isinstance(event, Saved) and not event.interim]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_tells_everything_that_happened(preset: str, digits: PackedDataset, tmp_path: Path) -> None:
    overrides = {
        "checkpoints": {"every_steps": 3},
        "samples": {"every_steps": 2, "count": 4},
        "evaluation": {"every_steps": 1, "samples": 64, "scores": ["mode_coverage"]},
    }
    events = list(train(small(preset, **overrides), digits, tmp_path))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert (events[-1].step, events[-1].images) == (6, 96)
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if isinstance(event, Sampled)] == [2, 4, 6]
    assert [event.step for event in scheduled(events)] == [3, 6]
    assert [event.step for event in events if isinstance(event, Evaluated)] == [1, 2, 3, 4, 5, 6]
    told = {event.path for event in events if isinstance(event, Sampled | Saved | ClassifierTrained)}
    beside = {
        f"checkpoints/{event.step:08d}/{name}"
        for event in events
        if isinstance(event, Saved)
        for name in ("state.safetensors", "manifest.json")
    }
    assert folders(tmp_path) == told | beside


@pytest.mark.parametrize("preset", PRESETS)
def test_the_settled_spec_repeats_the_run_to_the_last_bit(
    preset: str, digits: PackedDataset, tmp_path: Path
) -> None:
    first = list(train(small(preset, evaluation=None), digits, tmp_path / "first"))
    torch.manual_seed(99)  # nothing outside the spec may matter
    torch.randn(7)
    again = list(train(load_spec(first[0].spec), digits, tmp_path / "again"))
    assert losses(again) == losses(first)
    assert hashes(again) == hashes(first)
    other = list(train(small(preset, seed=6, evaluation=None), digits, tmp_path / "other"))
    assert losses(other) != losses(first)


@pytest.mark.parametrize("preset", PRESETS)
def test_looking_at_a_run_does_not_change_it(preset: str, digits: PackedDataset, tmp_path: Path) -> None:
    rarely = {"checkpoints": {"every_steps": 6}, "samples": {"every_steps": 6, "count": 4}}
    often = {"checkpoints": {"every_steps": 1}, "samples": {"every_steps": 1, "count": 9}}
    rarely["evaluation"] = {"every_steps": 6, "scores": []}
    often["evaluation"] = {"every_steps": 1, "scores": []}
    quiet = list(train(small(preset, **rarely), digits, tmp_path / "quiet"))
    watched = list(train(small(preset, **often), digits, tmp_path / "watched"))
    assert losses(watched) == losses(quiet)


class Fixed:
    """The same batch again and again."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, torch.zeros(len(self.images), dtype=torch.long)

    def state_dict(self) -> dict[str, int]:
        return {}


def gradients(spec: JobSpec, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each phase's gradient in the first step, as its optimizer sees it, in double precision."""
    recipe = build_recipe(spec, torch.device("cpu"))
    for network in recipe.networks.values():
        network.double()

    def draw(*real: torch.Tensor) -> Batch:
        batch = recipe.draw(*real)
        return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}

    seen: dict[str, torch.Tensor] = {}

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        (phase,) = (phase for phase in recipe.phases if phase.optimizer is optimizer)
        parameters = phase.network.parameters()
        seen[phase.name] = torch.cat([weights.grad.flatten() for weights in parameters])

    for phase in recipe.phases:
        phase.optimizer.register_step_pre_hook(record)
    one_step(spec, replace(recipe, draw=draw), Fixed(images), 1, Means(), measure=False)
    return seen


def test_accumulated_parts_give_the_gradient_of_the_whole_batch() -> None:
    """4 x 16 equals 64 (diffusion: no BatchNorm); scaling each part wrongly would be off by a factor."""
    images = torch.rand(64, 1, 16, 16) * 2 - 1
    whole = gradients(small("ddpm", batch_size=64, ema=None), images)["network"]
    parts = gradients(small("ddpm", batch_size=64, accumulation=4, ema=None), images)["network"]
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-14)
    assert whole.abs().max() > 1e-4


@pytest.mark.parametrize("preset", PRESETS)
def test_clipping_bounds_the_gradient(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(16, 1, 16, 16) * 2 - 1
    tight = {"clip_grad_norm": 1e-3}
    free = gradients(small(preset, optimizer={"clip_grad_norm": None}, ema=None), images)
    clipped = gradients(small(preset, optimizer=tight, ema=None), images)
    for name in free:
        assert free[name].norm() > 0.01
        assert clipped[name].norm() == pytest.approx(1e-3, rel=1e-3)
    first = next(iter(free))  # later phases see weights that the clipped update left elsewhere
    torch.testing.assert_close(clipped[first] / 1e-3, free[first] / free[first].norm(), rtol=1e-3, atol=1e-6)


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path) -> None:
    """Hours of NaN are worse than an error."""
    spec = small("dcgan-vanilla")
    recipe = build_recipe(spec, torch.device("cpu"))

    def loss_then_nan(batch: Batch, step: int) -> dict[str, torch.Tensor]:
        losses = recipe.phases[0].loss(batch, step)
        return losses if step < 3 else {"loss/discriminator": losses["loss/discriminator"] * torch.nan}

    broken = replace(recipe, phases=(replace(recipe.phases[0], loss=loss_then_nan),))
    told: list[Event] = []
    with pytest.raises(TrainingError, match="at step 3") as caught:
        told.extend(run(spec, broken, Fixed(torch.zeros(16, 1, 16, 16)), NOTHING_HELD_OUT, None, tmp_path))
    assert (caught.value.code, caught.value.step) == ("diverged", 3)
    assert "learning_rate" in caught.value.hint
    assert losses(told)[-1][0] == 2


def test_weights_that_are_no_numbers_are_not_stored(tmp_path: Path) -> None:
    """Breaks when a run that diverged between two points of its curves leaves a checkpoint that is broken."""
    rarely = {"every_steps": 6, "count": 4}
    spec = small("dcgan", log_every_steps=6, checkpoints={"every_steps": 1}, samples=rarely, evaluation=None)
    recipe = build_recipe(spec, torch.device("cpu"))

    def loss_then_nan(batch: Batch, step: int) -> dict[str, torch.Tensor]:
        losses = recipe.phases[0].loss(batch, step)
        return losses if step < 3 else {"loss/discriminator": losses["loss/discriminator"] * torch.nan}

    broken = replace(recipe, phases=(replace(recipe.phases[0], loss=loss_then_nan), recipe.phases[1]))
    told: list[Event] = []
    with pytest.raises(TrainingError, match="are not finite after step 3"):
        told.extend(run(spec, broken, Fixed(torch.zeros(16, 1, 16, 16)), NOTHING_HELD_OUT, None, tmp_path))
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["00000001", "00000002"]


def test_a_run_shows_that_it_moves_between_two_points_of_its_curves(
    digits: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand points of ten hours are 36 seconds apart: the progress may not stand still so long."""
    monkeypatch.setattr("models.training.loop._TELL_SECONDS", 0.0)
    events = list(train(small("dcgan", log_every_steps=4, evaluation=None), digits, tmp_path))
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in progress] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in progress if event.metrics] == [4, 6]


def test_a_new_run_saves_soon_and_once_whatever_its_interval_is(
    digits: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a run that is killed an hour before its first checkpoint has nothing to go on from."""
    monkeypatch.setattr("models.training.loop._SAVE_SECONDS", 0.0)
    spec = small("dcgan", checkpoints={"every_steps": 4}, evaluation=None)
    new = list(train(spec, digits, tmp_path / "new"))
    first = [event for event in new if isinstance(event, Saved)]
    assert [(event.step, event.interim) for event in first] == [(1, True), (4, False), (6, False)]
    assert isinstance(new[0], Started)
    settled = load_spec(new[0].spec)
    interim = tmp_path / "new" / "checkpoints" / "00000001"
    again = list(train(settled, digits, tmp_path / "again", resume=interim))
    assert [(event.step, event.interim) for event in again if isinstance(event, Saved)] == [
        (4, False),
        (6, False),
    ]
    assert hashes(again)[-1] == first[-1].sha256


def test_a_run_that_needs_too_much_memory_says_how_much_it_was_and_what_to_try(
    digits: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator's own words name neither the batch nor a way out."""
    monkeypatch.setattr("models.training.loop.one_step", lambda *_, **__: torch.empty(2**58))
    with pytest.raises(
        TrainingError, match=r"batches of 16 in 2 parts; .* MiB on cpu\. .*allocate"
    ) as caught:
        list(train(small("ddpm", accumulation=2, evaluation=None), digits, tmp_path))
    assert caught.value.code == "out_of_memory"
    assert "batch_size" in caught.value.hint


@pytest.mark.parametrize("every", [1, 3])
def test_a_phase_runs_at_every_so_many_steps(every: int) -> None:
    spec = small("dcgan-vanilla")
    recipe = build_recipe(spec, torch.device("cpu"))
    updates = []
    recipe.phases[1].optimizer.register_step_pre_hook(lambda *_: updates.append(step))
    lazy = replace(recipe, phases=(recipe.phases[0], replace(recipe.phases[1], every=every)))
    for step in range(1, 7):
        one_step(spec, lazy, Fixed(torch.zeros(16, 1, 16, 16)), step, Means(), measure=False)
    assert updates == list(range(every, 7, every))


def test_means_are_weighted_and_begin_anew() -> None:
    means = Means()
    means.add({"a": torch.tensor(1.0)}, weight=3)
    means.add({"a": torch.tensor(5.0), "b": torch.tensor(2.0)})
    means.set("rate", 0.5)
    assert means.read() == {"a": 2.0, "b": 2.0, "rate": 0.5}
    assert means.read() == {}
