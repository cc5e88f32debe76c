"""The scorer: one number for networks in memory and as a checkpoint, and the images it says it compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import checkpoints
from models.data import PackedDataset, split
from models.metrics import scorer as scorer_module
from models.metrics.classifier import ClassifierFacts, load_classifier, pixels
from models.metrics.extractors import Extractor, ExtractorError
from models.metrics.scorer import Scorer, class_labels
from models.networks import build_networks
from models.sampling import SamplingError, generate
from models.spec import JobSpec
from models.spec.evaluation import ExtractorKind
from models.spec.training import MemoryFormat
from tests.models.metrics.conftest import MakeSet
from tests.models.training.specs import small


@pytest.fixture
def classifier(trained: tuple[Path, ClassifierFacts]) -> Extractor:
    return load_classifier(trained[0], "cpu")


def spec_of(preset: str = "dcgan", *, samples: int = 80, **overrides: Any) -> JobSpec:
    return small(preset, **{"evaluation": {"samples": samples, "seed": 11}, **overrides})


def networks_of(spec: JobSpec) -> dict[str, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build_networks(spec)


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("dcgan", {}),
        ("dcgan", {"memory_format": "channels_last"}),
        ("dcgan", {"conditional": {}}),
        ("ddpm", {"evaluation": {"samples": 70, "sampler": {"kind": "ddim", "steps": 2}}}),
    ],
)
def test_a_checkpoint_scores_what_its_networks_scored(
    digits: PackedDataset, classifier: Extractor, tmp_path: Path, preset: str, overrides: dict[str, Any]
) -> None:
    """To the last bit: the number on a checkpoint must be the one that its evaluation gives later."""
    spec = spec_of(preset, **overrides)
    channels_last = spec.memory_format is MemoryFormat.CHANNELS_LAST
    layout = torch.channels_last if channels_last else torch.contiguous_format
    networks = {name: network.to(memory_format=layout) for name, network in networks_of(spec).items()}
    while_training = Scorer(spec, digits, classifier, ema=False, device="cpu")(networks)
    saved = checkpoints.save(tmp_path, spec=spec, step=1, images=16, networks=networks, averaged=None)
    loaded = checkpoints.load(saved.path)
    later = Scorer(loaded.spec, digits, classifier, ema=False, device="cpu")(loaded.networks)
    assert later == while_training
    assert len(later.scores) == 7


def test_details_are_what_has_to_be_known_to_compare(digits: PackedDataset, classifier: Extractor) -> None:
    spec = spec_of("ddpm", samples=64)
    assert spec.evaluation is not None
    assert spec.evaluation.sampler is not None
    details = Scorer(spec, digits, classifier, ema=True, device="cpu")(networks_of(spec)).details
    histogram = details.pop("class_histogram")
    assert tuple(histogram) == digits.classes
    assert sum(histogram.values()) == pytest.approx(1)
    assert json.loads(json.dumps(details)) == {
        "samples": 64,
        "reference": {"images": 64, "content_hash": digits.content_hash},
        "extractor": "classifier",
        "extractor_sha256": classifier.sha256,
        "ema": True,
        "seed": 11,
        "sampler": spec.evaluation.sampler.model_dump(mode="json"),
    }


class _Seen(nn.Module):
    """Keeps the images that it is shown, and finds each the mean of its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[Tensor] = []

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        self.images.append(images_BCHW)
        means = images_BCHW.float().mean(dim=(1, 2, 3))
        return torch.stack([means, means.sin()], dim=1), means[:, None].expand(-1, 10)


def seeing() -> tuple[Extractor, list[Tensor]]:
    network = _Seen()
    return Extractor(ExtractorKind.CLASSIFIER, "", network, torch.device("cpu"), 32), network.images


def test_images_are_made_from_the_seeds_and_set_against_the_first_of_the_split(
    digits: PackedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The split's first images are the held-out ones; pieces of any size make the same images."""
    monkeypatch.setattr(scorer_module, "_CHUNK", 32)
    spec, (extractor, seen) = spec_of(samples=80), seeing()
    networks = networks_of(spec)
    Scorer(spec, digits, extractor, ema=False, device="cpu")(networks)
    assert torch.equal(torch.cat(seen[:3]), generate(networks, spec, range(11, 91)))
    _, held_out = split(digits, 0.05)
    assert torch.equal(torch.cat(seen[3:]), pixels(digits, held_out[:80]))


def test_real_images_are_seen_once(digits: PackedDataset) -> None:
    spec, (extractor, seen) = spec_of(samples=64), seeing()
    scorer = Scorer(spec, digits, extractor, ema=False, device="cpu")
    networks = networks_of(spec)
    first = scorer(networks)
    assert len(seen) == 4
    assert scorer(networks) == first
    assert len(seen) == 6


def test_real_images_are_at_most_the_half_that_trains_no_classifier(
    digits: PackedDataset, classifier: Extractor
) -> None:
    spec = spec_of(samples=1000)
    details = Scorer(spec, digits, classifier, ema=False, device="cpu")(networks_of(spec)).details
    assert details["samples"] == 1000
    assert details["reference"]["images"] == 1797 // 2


def test_a_model_of_classes_makes_them_in_their_real_shares(make_set: MakeSet) -> None:
    made = make_set([0] * 12 + [1] * 4 + [3] * 4 + [-1] * 5, classes=4)
    assert class_labels(made, 10) == [0] * 6 + [1] * 2 + [3] * 2
    assert class_labels(made, 1) == [0]
    assert [class_labels(made, 1000).count(number) for number in range(4)] == [600, 200, 0, 200]


def test_scoring_draws_nothing_and_leaves_modes_alone(digits: PackedDataset, classifier: Extractor) -> None:
    spec = spec_of()
    networks = networks_of(spec)
    networks["generator"].train()
    before = torch.get_rng_state()
    Scorer(spec, digits, classifier, ema=False, device="cpu")(networks)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in networks["generator"].modules())


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_images_are_scored_as_far_as_that_goes(make_set: MakeSet, samples: int, count: int) -> None:
    scores = ["kid", "inception_score", "precision_recall"]
    spec = spec_of(evaluation={"samples": samples, "scores": scores})
    extractor, _ = seeing()
    measured = Scorer(spec, make_set([0, 1, 0, 1, 0, 1][:count]), extractor, ema=False, device="cpu")(
        networks_of(spec)
    )
    assert "score/inception_score" in measured.scores
    assert ("score/kid" in measured.scores) == (samples >= 2 and count >= 4)


def test_images_without_labels_are_scored(make_set: MakeSet) -> None:
    """By an extractor that knows no classes, as Inception: then there is no histogram of them."""
    spec = spec_of(evaluation={"samples": 5, "scores": ["kid", "precision_recall"]})
    extractor, _ = seeing()
    measured = Scorer(spec, make_set([-1] * 12, classes=0), extractor, ema=False, device="cpu")(
        networks_of(spec)
    )
    assert measured.scores.keys() == {"score/kid", "score/precision", "score/recall"}
    assert "class_histogram" not in measured.details


def test_networks_that_return_nan_cannot_be_scored(digits: PackedDataset, classifier: Extractor) -> None:
    spec = spec_of()
    networks = networks_of(spec)
    for weights in networks["generator"].parameters():
        nn.init.constant_(weights, float("nan"))
    with pytest.raises(SamplingError):
        Scorer(spec, digits, classifier, ema=False, device="cpu")(networks)


def test_a_classifier_of_other_classes_is_refused(make_set: MakeSet, classifier: Extractor) -> None:
    with pytest.raises(ExtractorError) as refused:
        Scorer(spec_of(), make_set([0, 1]), classifier, ema=False, device="cpu")
    assert refused.value.code == "classifier_of_other_classes"
