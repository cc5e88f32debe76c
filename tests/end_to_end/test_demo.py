"""What `make demo` shows: digits that a classifier trained on real ones reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neural_network import MLPClassifier

from models.data import open_dataset
from tests.service.conftest import RunningStack

SIDE, PADDING, TIMES = 16, 2, 4


def tiles(picture: Path) -> np.ndarray:
    """The 64 images of the demo's grid, as the digits were before they were enlarged."""
    grid = np.asarray(Image.open(picture).convert("L"))[::TIMES, ::TIMES]
    starts = [PADDING + number * (SIDE + PADDING) for number in range(8)]
    return np.stack([grid[y : y + SIDE, x : x + SIDE] for y in starts for x in starts])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_makes_digits_that_can_be_read(tmp_path: Path) -> None:
    demo = RunningStack(tmp_path / "demo", ["demo", "--out", str(tmp_path / "demo")])
    demo.start()
    try:
        assert demo.process.wait(500) == 0, demo.said()
        assert demo.left() == []
    finally:
        demo.end()
    real = open_dataset("digits", tmp_path / "cache")
    classifier = MLPClassifier((128,), max_iter=300, random_state=0)
    classifier.fit(real.images.reshape(real.count, -1) / 255, real.labels)
    probabilities = classifier.predict_proba(tiles(tmp_path / "demo" / "samples.png").reshape(64, -1) / 255)
    sure = probabilities.argmax(1)[probabilities.max(1) >= 0.8]
    assert len(set(sure)) >= 7, np.bincount(sure, minlength=10)
    job = json.loads((tmp_path / "demo" / "job.json").read_text())
    assert (job["status"], job["progress"]["images"]) == ("succeeded", 200_000)
    for picture in ("metrics.png", "first.png", "last.png"):
        assert min(Image.open(tmp_path / "demo" / picture).size) > 500
