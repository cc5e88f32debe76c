"""Which images a run is trained on and tried on: not suspects, nor images without a label it would learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data import BatchStream, PackedDataset
from models.data.packed import write_packed
from models.training import TrainingError, entry, train
from tests.models.training.specs import small

CLASSES = ("dark", "bright")


def shades(folder: Path, labels: NDArray[np.int32]) -> PackedDataset:
    """60 noisy images of 16 px, dark where the number is even, with these labels."""
    noise = np.random.default_rng(0).integers(0, 60, (60, 1, 16, 16))
    images = (noise + 150 * (np.arange(60) % 2)[:, None, None, None]).astype(np.uint8)
    return write_packed(folder, "shades", images, images.shape, labels, CLASSES)


@pytest.fixture
def trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains for two steps; the numbers of the images that batches were drawn from."""

    def run(dataset: PackedDataset, **overrides: Any) -> set[int]:
        indices: list[int] = []

        class Watched(BatchStream):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                indices.extend(kwargs["indices"].tolist())
                super().__init__(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(entry, "BatchStream", Watched)
            spec = small("dcgan", budget={"steps": 2}, evaluation=None, **overrides)
            list(train(spec, dataset, tmp_path / "out"))
        assert len(indices) == len(set(indices))
        return set(indices)

    return run


def test_suspects_are_not_trained_on(tmp_path: Path, trained_on: Any) -> None:
    """Found by the trainer itself where the set's folder has no list of them, and kept there."""
    labels = (np.arange(60) % 2).astype(np.int32)
    labels[[10, 47]] = 1, 0
    dataset = shades(tmp_path / "shades", labels)
    assert trained_on(dataset) == set(range(60))
    assert trained_on(dataset, data={"drop_suspects": True}) == set(range(60)) - {10, 47}
    kept = json.loads((dataset.folder / "suspects.json").read_text())
    assert {row["index"] for row in kept} == {10, 47}


def test_the_list_in_the_folder_is_believed(tmp_path: Path, trained_on: Any) -> None:
    """What the service has found: the trainer must not spend minutes on finding it again."""
    dataset = shades(tmp_path / "shades", (np.arange(60) % 2).astype(np.int32))
    row = {"index": 3, "given": "bright", "likely": "dark", "confidence": 0.9}
    (dataset.folder / "suspects.json").write_text(json.dumps([row]))
    assert trained_on(dataset, data={"drop_suspects": True}) == set(range(60)) - {3}


def test_a_conditional_model_learns_labelled_images_alone(tmp_path: Path, trained_on: Any) -> None:
    labels = (np.arange(60) % 2).astype(np.int32)
    labels[20:50] = -1
    dataset = shades(tmp_path / "shades", labels)
    assert trained_on(dataset) == set(range(60))
    assert trained_on(dataset, conditional={}) == set(range(60)) - set(range(20, 50))


def test_a_run_without_a_usable_image_says_so(tmp_path: Path) -> None:
    dataset = shades(tmp_path / "shades", np.full(60, -1, np.int32))
    spec = small("dcgan", conditional={})
    with pytest.raises(TrainingError, match="None of the 60 images") as caught:
        list(train(spec, dataset, tmp_path / "out"))
    assert caught.value.code == "no_images"
