"""Pending datasets as the API leaves them: a row, and a stored archive."""

import io
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from service.records import datasets
from service.records.tables import Dataset
from service.settings import Settings
from worker.resources import Resources, open_resources


@pytest.fixture
def resources(settings: Settings) -> Iterator[Resources]:
    """Opened resources of an empty service."""
    opened = open_resources(settings)
    yield opened
    opened.publisher.close()
    opened.database.close()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def picture(number: int, side: int = 32) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


PETS = {f"pets/{name}/{i}.png": picture(i + 10 * len(name)) for name in ("cat", "doggy") for i in range(3)}


@pytest.fixture
def upload(resources: Resources) -> Callable[..., str]:
    """Stores an archive, or a zip of files (the pets by default), as the API does; the id of its dataset."""

    def store(data: bytes | dict[str, bytes] = PETS, resolution: int | None = None) -> str:
        with resources.database.transaction() as session:
            dataset_id = datasets.create(session, "pets", resolution=resolution).id
        archive = data if isinstance(data, bytes) else zipped(data)
        resources.artifacts.put_bytes(archive, f"datasets/{dataset_id}/upload")
        return dataset_id

    return store


@pytest.fixture
def record(resources: Resources) -> Callable[[str], Dataset]:
    def read(dataset_id: str) -> Dataset:
        with resources.database.read() as session:
            return datasets.get(session, dataset_id)

    return read


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def pets() -> dict[str, bytes]:
    """Three pictures in each of two classes, in a folder around them."""
    return dict(PETS)
