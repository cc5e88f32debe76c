"""A run that resumes from any checkpoint ends, to the last bit, where one that never stopped ends."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import checkpoint_folders
from models.data import PackedDataset
from models.spec import JobSpec, load_spec
from models.tensor_files import CheckpointError
from models.training import Evaluated, Event, Finished, Progress, Saved, Started, Stopped, loop, train
from tests.models.training.specs import SMALL, small

STEPS = 12
EVERY = {
    "budget": {"steps": STEPS},
    "checkpoints": {"every_steps": 3},
    "samples": {"every_steps": 4, "count": 4},
    "evaluation": {"every_steps": 2, "samples": 64, "scores": []},
    "log_every_steps": 5,  # no divisor of the checkpoints' interval: half a mean is part of the state
}
GAN, DIFFUSION = SMALL["dcgan"], SMALL["ddpm"]
UNNORMALISED = {**GAN["discriminator"], "norm": "none"}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gan": ("dcgan", {}),
    "accumulation": ("dcgan", {"accumulation": 2}),
    "channels last": ("dcgan", {"memory_format": "channels_last"}),
    "lazy penalty": (
        "dcgan",
        {"discriminator": UNNORMALISED, "penalties": [{"kind": "r1", "every": 4}, {"kind": "r2"}]},
    ),
    "diffaugment": ("dcgan", {"discriminator_augmentation": {"kind": "diffaugment"}}),
    "ada": ("dcgan", {"discriminator_augmentation": {"kind": "ada", "adjustment_images": 640}}),
    "dropout": (
        "dcgan",
        {"generator": {**GAN["generator"], "dropout": 0.3}, "discriminator": {"ndf": 4, "dropout": 0.3}},
    ),
    "spectral norm": (
        "dcgan",
        {
            "generator": {**GAN["generator"], "spectral_norm": True},
            "discriminator": {**UNNORMALISED, "spectral_norm": True},
            "discriminator_steps": 5,
        },
    ),
    "augmented data": (
        "dcgan",
        {"data": {"augmentations": [{"kind": "rotation"}, {"kind": "mixup"}]}},
    ),
    "rmsprop": ("dcgan", {"optimizer": {"kind": "rmsprop", "betas": None, "momentum": 0.5}}),
    "sgd": ("dcgan", {"optimizer": {"kind": "sgd", "betas": None, "momentum": 0.9}}),
    "no average": ("dcgan-vanilla", {}),
    "diffusion": ("ddpm", {}),
    "diffusion with dropout": ("ddpm", {"network": {**DIFFUSION["network"], "dropout": 0.2}}),
    "conditional diffusion": ("ddpm", {"conditional": {}, "accumulation": 2}),
    "edm": ("ddpm", {"noise_schedule": {"kind": "edm"}, "sampler": {"kind": "heun", "steps": 2}}),
}


def digest(out: Path, step: int) -> str:
    """Of everything: weights, average, optimizers, random numbers, the position in the data, open means."""
    return hashlib.sha256(
        (out / "checkpoints" / f"{step:08d}" / checkpoint_folders.STATE).read_bytes()
    ).hexdigest()


def told(events: list[Event], *, after: int = 0) -> list[Any]:
    """Metrics, measurements and weights behind a step."""
    return [
        (type(event).__name__, event.step, *_values(event))
        for event in events
        if isinstance(event, Progress | Evaluated | Saved) and event.step > after and not _interim(event)
    ]


def _interim(event: Event) -> bool:
    """Whether it is a checkpoint that only time asked for."""
    return isinstance(event, Saved) and event.interim


def _values(event: Progress | Evaluated | Saved) -> tuple[Any, ...]:
    if isinstance(event, Saved):
        return (event.sha256,)
    values = event.metrics if isinstance(event, Progress) else event.scores
    return ({name: value for name, value in values.items() if not name.startswith("memory/")},)


def stopped_after(step: int, spec: JobSpec, dataset: PackedDataset, out: Path) -> Path:
    """The folder of the checkpoint of a run that was told to stop while it made step `step`."""
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) == step

    *_, saved, last = train(spec, dataset, out, stopping=stopping)
    assert isinstance(saved, Saved)
    assert isinstance(last, Stopped)
    assert saved.step == last.step == step
    return (out / saved.path).parent


def other_random_state() -> None:
    """A resumed run is another process: nothing may come from torch's global state."""
    torch.manual_seed(999)
    torch.randn(5)


@pytest.fixture(scope="module")
def whole(
    request: pytest.FixtureRequest, digits: PackedDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobSpec, list[Event], Path]:
    """A run that never stopped: its settled spec, what it told, its folder."""
    preset, overrides = RUNS[request.param]
    out = tmp_path_factory.mktemp("whole")
    events = list(train(small(preset, **{**EVERY, **overrides}), digits, out))
    assert isinstance(events[0], Started)
    return load_spec(events[0].spec), events, out


@pytest.mark.parametrize("whole", RUNS, indirect=True, scope="module")
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(1, STEPS - 1))
def test_stopped_anywhere_and_resumed_nothing_differs(
    whole: tuple[JobSpec, list[Event], Path],
    digits: PackedDataset,
    tmp_path_factory: pytest.TempPathFactory,
    step: int,
) -> None:
    """A generator, an optimizer's moment, an estimate or a place in the data left out changes the end."""
    spec, events, out = whole
    folder = tmp_path_factory.mktemp("stopped")
    checkpoint = stopped_after(step, spec, digits, folder / "first")
    other_random_state()
    resumed = list(train(spec, digits, folder / "second", resume=checkpoint))
    assert isinstance(resumed[-1], Finished)
    assert told(resumed) == told(events, after=step)
    assert digest(folder / "second", STEPS) == digest(out, STEPS)


@pytest.mark.parametrize("whole", ["ada"], indirect=True)
def test_a_state_that_lacks_anything_would_be_noticed(
    whole: tuple[JobSpec, list[Event], Path], tmp_path: Path
) -> None:
    """The states of two steps differ in every part: the comparison of hashes above compares all of them."""
    import safetensors

    _, _, out = whole
    first, second = (
        safetensors.safe_open(out / "checkpoints" / f"{step:08d}" / checkpoint_folders.STATE, framework="pt")
        for step in (3, 6)
    )
    parts: dict[str, bool] = {}
    for key in first.keys():  # noqa: SIM118 - it is no mapping
        part = key.split(".")[0]
        changed = not torch.equal(first.get_tensor(key), second.get_tensor(key))
        parts[part] = parts.get(part, False) or changed
    assert set(parts) >= {"generator", "discriminator", "ema", "optimizer", "random", "recipe", "means"}
    assert all(parts.values()), parts


@pytest.mark.parametrize("whole", ["gan", "diffusion"], indirect=True)
def test_work_is_saved_before_images_are_scored(
    whole: tuple[JobSpec, list[Event], Path],
    digits: PackedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when a job that is paused while it makes ten thousand images loses what it did before."""
    spec, events, _ = whole
    apart = spec.model_copy(
        update={"checkpoints": spec.checkpoints.model_copy(update={"every_steps": STEPS})}
    )
    monkeypatch.setattr(loop, "_SAVE_SECONDS", 0.0)
    saved = [event for event in train(apart, digits, tmp_path / "first") if isinstance(event, Saved)]
    assert [event.step for event in saved if event.interim] == [1, 3, 5, 7, 9, 11]
    assert [event.step for event in saved if not event.interim] == [STEPS]
    checkpoint = tmp_path / "first" / "checkpoints" / "00000005"
    resumed = list(train(apart, digits, tmp_path / "second", resume=checkpoint))
    curves, expected = ([one for one in told(run, after=5) if one[0] != "Saved"] for run in (resumed, events))
    assert curves == expected


@pytest.mark.parametrize("whole", ["gan"], indirect=True)
def test_a_finished_run_resumed_finishes_at_once(
    whole: tuple[JobSpec, list[Event], Path], digits: PackedDataset, tmp_path: Path
) -> None:
    """A trainer that dies between its last checkpoint and its last word."""
    spec, _, out = whole
    events = list(train(spec, digits, tmp_path, resume=out / "checkpoints" / f"{STEPS:08d}"))
    assert [type(event) for event in events] == [Started, Finished]


@pytest.mark.parametrize("whole", ["gan"], indirect=True)
def test_another_spec_or_damage_is_refused(
    whole: tuple[JobSpec, list[Event], Path], digits: PackedDataset, tmp_path: Path
) -> None:
    """Going on from the wrong weights looks like training."""
    spec, _, out = whole
    folder = out / "checkpoints" / "00000006"
    other = spec.model_copy(update={"seed": 6})
    with pytest.raises(CheckpointError, match="another spec"):
        list(train(other, digits, tmp_path / "other", resume=folder))
    damaged = tmp_path / "checkpoints" / "00000006"
    shutil.copytree(folder, damaged)
    shutil.copytree(out / "checkpoints" / "00000003", damaged.with_name("00000003"))
    assert checkpoint_folders.is_intact(damaged)
    content = bytearray((damaged / checkpoint_folders.STATE).read_bytes())
    content[-1] ^= 1
    (damaged / checkpoint_folders.STATE).write_bytes(content)
    assert not checkpoint_folders.is_intact(damaged)
    assert next(checkpoint_folders.newest_first(damaged.parent)).name == "00000003"
