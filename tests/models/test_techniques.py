"""Every technique that a spec can ask for is there, does something, and is documented."""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import tests.models.techniques as techniques
from models.data.augmentation import DATA_AUGMENTATIONS
from models.data.differentiable import DIFFERENTIABLE_AUGMENTATIONS
from models.losses.adversarial import ADVERSARIAL
from models.losses.denoising import TARGETS, WEIGHTINGS
from models.losses.penalties import PENALTIES
from models.metrics.scores import SCORES
from models.networks.initialisation import INITS
from models.networks.layers import ACTIVATIONS, NORMS
from models.sampling.samplers import SAMPLERS
from models.spec.augmentation import AugmentationKind
from models.spec.diffusion import NoiseScheduleKind, Prediction, Weighting
from models.spec.evaluation import ScoreKind
from models.spec.gan import DiscriminatorOutput, GanLoss, Penalty
from models.spec.layers import Activation, Init, Norm
from models.spec.optimizer import OptimizerKind, ScheduleKind
from models.spec.sampling import SamplerKind
from models.spec.training import MemoryFormat, Precision
from models.training.optimizer import DECAYS, OPTIMIZERS
from models.training.processes import PROCESSES
from models.training.settle import MEMORY_FORMATS
from models.training.update import AUTOCAST
from tests.models.techniques import Technique

TABLES: dict[type[StrEnum], Iterable[Any]] = {
    Init: INITS,
    Norm: NORMS,
    Activation: ACTIVATIONS,
    GanLoss: {loss for loss, _ in ADVERSARIAL},
    Penalty: PENALTIES,
    Prediction: TARGETS,
    Weighting: WEIGHTINGS,
    NoiseScheduleKind: PROCESSES,
    SamplerKind: SAMPLERS,
    OptimizerKind: OPTIMIZERS,
    ScheduleKind: DECAYS,
    ScoreKind: SCORES,
    AugmentationKind: {*DATA_AUGMENTATIONS, *DIFFERENTIABLE_AUGMENTATIONS},
    # Of these some members are no rows: `auto` becomes another, and `fp32` is what is done without a row.
    MemoryFormat: {MemoryFormat.AUTO, *MEMORY_FORMATS},
    Precision: {Precision.AUTO, Precision.FP32, *AUTOCAST},
}
WITHOUT_A_ROW = {MemoryFormat.AUTO, Precision.AUTO, Precision.FP32}
REFERENCE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()


def _collected() -> list[Technique]:
    found: list[Technique] = []
    for module in pkgutil.iter_modules(techniques.__path__):
        own = importlib.import_module(f"tests.models.techniques.{module.name}").TECHNIQUES
        found += [replace(technique, name=f"{module.name}: {technique.name}") for technique in own]
    return found


TECHNIQUES = _collected()
MEMBERS = [member for enum in TABLES for member in enum]


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_a_technique_does_what_it_says(technique: Technique) -> None:
    technique.check()


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_its_test_would_fail_if_it_did_nothing(technique: Technique, monkeypatch: pytest.MonkeyPatch) -> None:
    technique.disable(monkeypatch)
    with pytest.raises(AssertionError):
        technique.check()


def test_names_are_unique() -> None:
    names = [technique.name for technique in TECHNIQUES]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("enum", TABLES, ids=lambda enum: enum.__name__)
def test_every_member_has_a_row_and_every_row_a_member(enum: type[StrEnum]) -> None:
    """What a spec may ask for is what there is."""
    assert set(TABLES[enum]) == set(enum)


def test_every_loss_has_a_row_for_each_output_that_it_takes() -> None:
    """Those that compare scores take logits only; the rules of the spec refuse the others."""
    of_scores = {GanLoss.WASSERSTEIN, GanLoss.HINGE, GanLoss.RELATIVISTIC}
    refused = set(product(of_scores, [DiscriminatorOutput.SIGMOID]))
    assert set(ADVERSARIAL) == set(product(GanLoss, DiscriminatorOutput)) - refused


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member}")
def test_every_member_has_a_technique(member: StrEnum) -> None:
    assert member in WITHOUT_A_ROW or any(technique.row is member for technique in TECHNIQUES)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member}")
def test_every_member_is_documented(member: StrEnum) -> None:
    """By a sentence in the docstring of its kind, which is a section of docs/spec.md."""
    enum = type(member)
    assert f"`{member}`" in (enum.__doc__ or "")
    section = REFERENCE.partition(f"## `{enum.__name__}`\n")[2].partition("\n## ")[0]
    assert section.count(f"`{member}`") >= 2  # in a sentence, and in the list of values
