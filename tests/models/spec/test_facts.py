"""What the spec says of the built-in datasets without opening them is what they are."""

from pathlib import Path

import pytest

from models.data import default_cache, open_dataset
from models.data.packed import FACTS, VERSION
from models.spec import BUILTIN_DATASETS


@pytest.mark.parametrize("name", BUILTIN_DATASETS)
def test_the_facts_are_those_of_the_packed_set(name: str, tmp_path: Path) -> None:
    """`sigma_data` follows from the spread; Fashion-MNIST is read only where it was downloaded before."""
    there = (default_cache() / f"{name}-v{VERSION}" / FACTS).is_file()
    if name != "digits" and not there:
        pytest.skip(f"{name} is not there")
    facts, packed = BUILTIN_DATASETS[name], open_dataset(name, None if there else tmp_path)
    assert facts.std == pytest.approx(packed.std[0], abs=1e-4)
    assert (facts.count, facts.resolution, facts.channels) == (
        packed.count,
        packed.resolution,
        packed.channels,
    )
    assert facts.classes == packed.classes
