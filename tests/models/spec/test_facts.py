"""What the spec says of datasets without opening them is what they are."""

from pathlib import Path

import numpy as np
import pytest

from models.data import default_cache, open_dataset
from models.data.packed import FACTS, VERSION, PackedDataset, write_packed
from models.spec import BUILTIN_DATASETS


@pytest.mark.parametrize("name", BUILTIN_DATASETS)
def test_the_facts_of_a_builtin_set_are_those_of_the_packed_one(name: str, tmp_path: Path) -> None:
    """Fashion-MNIST is read only where it was downloaded before."""
    there = (default_cache() / f"{name}-v{VERSION}" / FACTS).is_file()
    if name != "digits" and not there:
        pytest.skip(f"{name} is not there")
    assert open_dataset(name, None if there else tmp_path).facts == BUILTIN_DATASETS[name]


def test_the_spread_is_that_of_all_pixels_of_all_channels(tmp_path: Path) -> None:
    """σ_data is one number: channels that are flat, and far from each other, are spread widely."""
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), np.uint8)
    images[:, 0], images[:, 1] = 0, 255
    write_packed(tmp_path, "flat", images, images.shape, np.zeros(6, np.int32), ("a",), ())
    facts = PackedDataset.open(tmp_path).facts
    assert facts.std == pytest.approx((images / 255).std(), abs=1e-4)
