"""The classifier: how well it does, what it is trained on, and that a dataset gives one."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.data import PackedDataset, open_dataset, split
from models.metrics.classifier import (
    Classifier,
    ClassifierFacts,
    classifier_key,
    load_classifier,
    pixels,
    train_classifier,
)
from models.metrics.extractors import ExtractorError
from models.spec.evaluation import FEATURES, ExtractorKind
from tests.models.metrics.conftest import MakeSet

TWENTY = [0, 1] * 10


def test_digits_are_told_apart(trained: tuple[Path, ClassifierFacts]) -> None:
    _, facts = trained
    assert facts.accuracy >= 0.97
    assert facts.images == 1797 // 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_clothes_are_told_apart(tmp_path: Path) -> None:
    clothes = open_dataset("fashion-mnist", tmp_path)
    assert train_classifier(clothes, tmp_path / "classifier.safetensors").accuracy >= 0.88


def test_the_file_holds_what_the_extractor_tells(
    digits: PackedDataset, trained: tuple[Path, ClassifierFacts]
) -> None:
    path, facts = trained
    extractor = load_classifier(path, "cpu")
    assert extractor.classes == digits.classes
    assert extractor.accuracy == facts.accuracy
    assert extractor.sha256 == facts.sha256
    assert facts.key == path.name == classifier_key(digits)


def test_features_are_of_the_announced_size(
    digits: PackedDataset, trained: tuple[Path, ClassifierFacts]
) -> None:
    extractor = load_classifier(trained[0], "cpu")
    found = extractor(torch.from_numpy(digits.images[:70]))
    assert found.features_ND.shape == (70, extractor.features)
    assert extractor.features == FEATURES[ExtractorKind.CLASSIFIER]
    assert found.logits_NK.shape == (70, 10)
    assert len(extractor(torch.from_numpy(digits.images[:0]))) == 0


def test_it_has_about_a_hundred_thousand_weights() -> None:
    assert 50_000 < sum(weights.numel() for weights in Classifier(3, 10).parameters()) < 150_000


def test_it_is_trained_on_the_second_half_alone(make_set: MakeSet, tmp_path: Path) -> None:
    """Other images in the first half, where scores take theirs, leave every weight as it is."""
    made = make_set(TWENTY)
    train_classifier(made, tmp_path / "one")
    _, first = split(made, 0.5)
    made.images[first.numpy()] = 7
    train_classifier(made, tmp_path / "other")
    one, other = (safetensors.torch.load_file(tmp_path / name) for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_dataset_gives_one_classifier_on_any_number_of_threads(make_set: MakeSet, tmp_path: Path) -> None:
    """So that scores by it can be compared, whoever trained it first; the number of threads is left alone."""
    made, threads = make_set([0, 1] * 200), torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(train_classifier(made, tmp_path / str(number)))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_training_draws_nothing(make_set: MakeSet, tmp_path: Path) -> None:
    made = make_set(TWENTY)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train_classifier(made, tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert train_classifier(made, tmp_path / "other") == one


def test_images_are_moved_while_it_trains(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_set(TWENTY)
    moved = train_classifier(made, tmp_path / "one")
    monkeypatch.setattr("models.metrics.classifier._shifted", lambda images, _generator: images)
    assert train_classifier(made, tmp_path / "other").sha256 != moved.sha256


def test_a_file_is_named_by_images_labels_and_size(make_set: MakeSet) -> None:
    sets = [make_set(TWENTY), make_set(TWENTY, seed=1), make_set([1, 0] * 10), make_set(TWENTY).at(32, 1)]
    assert len({classifier_key(made) for made in sets}) == len(sets)
    assert classifier_key(make_set(TWENTY)) == classifier_key(sets[0])


@pytest.mark.parametrize(
    ("labels", "classes", "tested"),
    [
        pytest.param(TWENTY, 2, 10, id="twenty images"),
        pytest.param([0] * 19 + [1], 2, 10, id="a class of one image"),
        pytest.param([0, 1] * 3, 9, 3, id="classes without an image"),
        pytest.param([-1, 0, 1] * 4, 2, None, id="images without a label"),
        pytest.param([-1] * 8, 2, 0, id="no label at all"),
        pytest.param([0, 1], 2, 1, id="two images"),
        pytest.param([0], 2, 0, id="one image"),
    ],
)
def test_small_sets_give_a_classifier(
    make_set: MakeSet, tmp_path: Path, labels: list[int], classes: int, tested: int | None
) -> None:
    """Accuracy is of the labelled images of the first half; 0 of none."""
    made = make_set(labels, classes=classes)
    facts = train_classifier(made, tmp_path / "classifier")
    _, first = split(made, 0.5)
    assert facts.images == int((made.labels[first.numpy()] >= 0).sum())
    assert tested is None or facts.images == tested
    assert 0 <= facts.accuracy <= 1
    found = load_classifier(tmp_path / "classifier", "cpu")(torch.from_numpy(np.array(made.images)))
    assert found.logits_NK.shape == (len(labels), classes)
    assert bool(found.features_ND.isfinite().all() and found.logits_NK.isfinite().all())


def test_large_images_are_shrunk_without_aliasing() -> None:
    """A chequerboard of single pixels is grey from afar; every second pixel of it would be black."""
    network = Classifier(1, 10).eval()
    board = (torch.arange(64)[:, None] + torch.arange(64)[None]) % 2 * 255
    seen, grey, black = (
        network(image.to(torch.uint8).expand(1, 1, 64, 64))[0]
        for image in (board, board * 0 + 127, board * 0)
    )
    assert (seen - grey).norm() < 0.1 * (black - grey).norm()


@pytest.mark.parametrize("channels", [1, 3])
def test_large_images_in_colour_train(make_set: MakeSet, tmp_path: Path, channels: int) -> None:
    made = make_set(TWENTY, resolution=64, channels=channels)
    train_classifier(made, tmp_path / "classifier")
    assert len(load_classifier(tmp_path / "classifier", "cpu")(pixels(made, torch.arange(3)))) == 3


def test_images_that_are_mapped_from_the_disk_give_the_same_classifier(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, mapped = make_set(TWENTY), make_set(TWENTY)
    assert not isinstance(held.images, np.memmap)
    monkeypatch.setattr("models.data.packed.MAPPED_FROM", 0)
    assert isinstance(mapped.images, np.memmap)
    assert train_classifier(held, tmp_path / "one") == train_classifier(mapped, tmp_path / "other")


def damaged_files(whole: bytes) -> dict[str, bytes | None]:
    other = safetensors.torch.save({"weight": torch.zeros(2)}, {"atelier": "{}"})
    return {"missing": None, "empty": b"", "cut": whole[:-1], "of another kind": other, "text": b"{}" * 100}


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "of another kind", "text"])
def test_what_is_no_classifier_is_refused(
    trained: tuple[Path, ClassifierFacts], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "classifier"
    content = damaged_files(trained[0].read_bytes())[kind]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExtractorError, match="holds no classifier") as refused:
        load_classifier(path, "cpu")
    assert refused.value.code == "classifier_damaged"
    assert str(path) in refused.value.message


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(make_set: MakeSet, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "classifier"
    (target / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        train_classifier(make_set(TWENTY), target)
    assert list(target.parent.iterdir()) == [target]
