"""Every number that a run tells is explained in docs/monitoring.md, and has a panel of the plot."""

import re
from pathlib import Path

import pytest

from models.data import PackedDataset, open_dataset
from models.spec.evaluation import ScoreKind
from models.training import Evaluated, Progress, train
from service.api.panels import OTHERS, chosen
from tests.models.training.specs import small

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
KEYS = [
    key
    for row in PAGE.splitlines()
    if row.startswith("| `")
    for key in re.findall("`(.*?)`", row.split("|")[1])
]
RUNS = {
    "a GAN with everything": (
        "dcgan",
        {
            "penalties": [{"kind": "r1", "every": 2}, {"kind": "r2"}],
            "discriminator": {"ndf": 4, "norm": "none"},
            "discriminator_augmentation": {"kind": "ada"},
        },
    ),
    "a diffusion model": ("ddpm", {}),
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return open_dataset("digits", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all runs: the first trains the classifier of the scores, the others find it there."""
    return tmp_path_factory.mktemp("out")


@pytest.mark.parametrize("run", RUNS)
def test_what_a_run_tells_is_explained(run: str, digits: PackedDataset, out: Path) -> None:
    """If this fails: a row in docs/monitoring.md, and a panel in service/api/panels.py."""
    preset, changed = RUNS[run]
    evaluation = {"every_steps": 4, "samples": 70}
    told = {"rate/images_per_second"}
    spec = small(preset, budget={"steps": 4}, log_every_steps=1, evaluation=evaluation, **changed)
    for event in train(spec, digits, out):
        if isinstance(event, Progress):
            told |= event.metrics.keys()
        elif isinstance(event, Evaluated):
            told |= event.scores.keys()
    assert {"score/fid", "memory/peak_bytes"} <= told
    assert [key for key in sorted(told) if not explained(key)] == []
    assert OTHERS not in [panel.title for panel, _ in chosen(sorted(told))]


def test_each_score_is_explained() -> None:
    assert sum(key.startswith("score/") for key in KEYS) == len(ScoreKind) + 1, (
        "precision and recall are one kind"
    )


def explained(key: str) -> bool:
    return any(re.fullmatch(pattern.replace("{phase}", "[a-z0-9_]+"), key) for pattern in KEYS)
