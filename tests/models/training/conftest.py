"""A small set of real digits, and torch's global state kept from one test to the next."""

from collections.abc import Iterator

import pytest
import torch

from models.data import PackedDataset, open_dataset


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return open_dataset("digits", tmp_path_factory.mktemp("digits"))


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
