"""Noise belongs to the image: its seed decides it, and nothing around it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sampling import initial_noise
from models.sampling.noise import draw, generators
from models.spec import MAX_SEED

SEEDS = st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=9)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.sampled_from([(1,), (100,), (1, 16, 16), (3, 8, 8)]))
def test_each_row_is_that_of_its_seed_alone(seeds: list[int], shape: tuple[int, ...]) -> None:
    together = initial_noise(seeds, shape)
    assert together.shape == (len(seeds), *shape)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(row, initial_noise([seed], shape)[0])
        alone = torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
        assert torch.equal(row, alone[0])  # what diffusers draws for a list of generators


def test_neighbouring_seeds_give_unrelated_noise() -> None:
    noise = initial_noise(range(64), (256,))
    correlations = torch.corrcoef(noise) - torch.eye(64)
    assert correlations.abs().max() < 0.35  # 5.6 standard deviations
    assert abs(noise.std().item() - 1) < 0.03


def test_a_generator_goes_on_where_it_stopped() -> None:
    sources = generators([4, 5])
    first, second = draw(sources, (8,)), draw(sources, (8,))
    assert not torch.equal(first, second)
    assert torch.equal(first, initial_noise([4, 5], (8,)))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    initial_noise([1, 2], (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)
