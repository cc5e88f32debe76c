"""Truncation, points between two seeds and images to begin with: each image is still its own."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.sampling import Between, InitImages, SamplingError, generate, initial_noise
from models.sampling.generate import GAN_CHUNK
from models.sampling.noise import slerp
from models.spec import MAX_SEED, SamplerKind, SamplerSpec
from tests.models.sampling.networks import diffusion, gan

SEED = st.integers(0, MAX_SEED)
ORIGINS = st.one_of(SEED, st.builds(Between, SEED, SEED, st.floats(0, 1)))
THRESHOLDS = st.one_of(st.none(), st.floats(1e-9, 1))
GAN = gan(resolution=16, channels=1)


@settings(max_examples=200, deadline=None)
@given(SEED, st.floats(1e-12, 1))
def test_truncated_noise_stays_within_and_keeps_what_was(seed: int, threshold: float) -> None:
    """Breaks when a value is left outside, or when one that need not be redrawn is."""
    plain, cut = (initial_noise([seed], (100,), limit)[0] for limit in (None, threshold))
    assert cut.abs().max() <= threshold
    inside = plain.abs() <= threshold
    assert torch.equal(cut[inside], plain[inside])


def test_truncated_noise_is_normal_noise_cut_off() -> None:
    """Breaks when values above are clamped or scaled in place of drawn again: the variance is known."""
    threshold = 0.7
    noise = initial_noise(range(400), (100,), threshold)
    inside = math.erf(threshold / math.sqrt(2))
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    assert noise.var().item() == pytest.approx(1 - 2 * threshold * density / inside, rel=0.01)
    assert abs(noise.mean().item()) < 0.01
    assert (noise.abs() == noise.abs().max()).sum() == 1  # nothing piles up at the threshold


@settings(max_examples=60, deadline=None)
@given(st.lists(ORIGINS, min_size=1, max_size=6), THRESHOLDS)
def test_noise_is_that_of_its_origin_alone(origins: list[int | Between], threshold: float | None) -> None:
    together = initial_noise(origins, (50,), threshold)
    for row, origin in zip(together, origins, strict=True):
        assert torch.equal(row, initial_noise([origin], (50,), threshold)[0])


@settings(max_examples=60, deadline=None)
@given(SEED, SEED, THRESHOLDS)
def test_the_way_ends_at_the_two_seeds_exactly(start: int, end: int, threshold: float | None) -> None:
    way = [Between(start, end, 0.0), Between(start, end, 1.0)]
    assert torch.equal(initial_noise(way, (64,), threshold), initial_noise([start, end], (64,), threshold))


def test_slerp_follows_the_arc_at_equal_angles() -> None:
    """Breaks when the straight line is taken, on which noise is shorter than a network has ever seen."""
    x, y = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    for position in (0.25, 1 / 3, 0.5):
        angle = position * math.pi / 2
        expected = 3 * torch.tensor([math.cos(angle), math.sin(angle)])
        torch.testing.assert_close(slerp(x, y, position), expected)
    noise = initial_noise([1, 2], (3, 32, 32))
    assert slerp(*noise, 0.5).std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0, 2.0]), ([0.0, 0.0], [1.0, 0.0]), ([1.0], [-1.0])])
def test_slerp_of_what_has_no_arc_is_finite(a: list[float], b: list[float]) -> None:
    """Breaks when equal seeds divide zero by zero."""
    start, end = torch.tensor(a), torch.tensor(b)
    assert slerp(start, end, 0.3).isfinite().all()
    assert torch.equal(slerp(start, end, 0.0), start)
    assert torch.equal(slerp(start, end, 1.0), end)


@settings(max_examples=25, deadline=None)
@given(st.lists(ORIGINS, min_size=1, max_size=GAN_CHUNK + 3), THRESHOLDS, st.data())
def test_a_gans_bytes_depend_on_the_origin_and_the_truncation_alone(
    origins: list[int | Between], threshold: float | None, data: st.DataObject
) -> None:
    """Breaks when an image's company decides about one bit of it."""
    spec, networks = GAN
    together = generate(networks, spec, origins, truncation=threshold)
    index = data.draw(st.integers(0, len(origins) - 1))
    assert torch.equal(generate(networks, spec, [origins[index]], truncation=threshold)[0], together[index])


def test_a_gans_frames_begin_and_end_with_the_seeds_own_images() -> None:
    spec, networks = GAN
    for threshold in (None, 0.4):
        frames = [Between(3, 8, step / 6) for step in range(7)]
        made = generate(networks, spec, frames, truncation=threshold)
        assert torch.equal(made[[0, -1]], generate(networks, spec, [3, 8], truncation=threshold))
        assert len({image.numpy().tobytes() for image in made}) == 7


def test_less_truncation_than_any_value_changes_nothing_and_more_does() -> None:
    spec, networks = GAN
    plain = generate(networks, spec, range(4))
    assert not torch.equal(generate(networks, spec, range(4), truncation=1.0), plain)
    near = generate(networks, spec, range(4), truncation=1e-9).int()
    assert (near - near[0]).abs().max() == 0  # with hardly any noise all images are the mean one


SOLVERS = [
    *(
        ("cosine", kind)
        for kind in (SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC)
    ),
    *((schedule, kind) for schedule in ("edm", "flow") for kind in (SamplerKind.EULER, SamplerKind.HEUN)),
]


def begun(count: int, shape: tuple[int, ...]) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=source)


@pytest.mark.parametrize(("schedule", "kind"), SOLVERS)
def test_variations_of_images_are_the_same_alone_and_among_others(schedule: str, kind: SamplerKind) -> None:
    """Breaks when the image that one begins with leaks into another's, or the noise is that of the batch."""
    spec, networks = diffusion(schedule)
    images = begun(3, spec.data.image_shape)
    how: dict[str, Any] = {"sampler": SamplerSpec(kind=kind, steps=6)}
    together = generate(networks, spec, [4, 5, 6], init=InitImages(images, 0.5), **how).int()
    for i, seed in enumerate([4, 5, 6]):
        alone = generate(networks, spec, [seed], init=InitImages(images[i : i + 1], 0.5), **how)[0].int()
        assert (alone - together[i]).abs().max() <= 1


@pytest.mark.parametrize(("schedule", "kind"), SOLVERS)
def test_only_the_remaining_steps_are_run(schedule: str, kind: SamplerKind) -> None:
    spec, networks = diffusion(schedule)
    init, seen = InitImages(begun(1, spec.data.image_shape), 0.4), []
    how = SamplerSpec(kind=kind, steps=5)
    generate(networks, spec, [1], sampler=how, init=init, progress=lambda *done: seen.append(done))
    count = 3 if kind is SamplerKind.HEUN else 2
    assert seen == [(done, count) for done in range(1, count + 1)]


@pytest.mark.parametrize("kind", [SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC])
def test_deterministic_samplers_go_from_one_seeds_image_to_the_others(kind: SamplerKind) -> None:
    spec, networks = diffusion()
    how = SamplerSpec(kind=kind, steps=4)
    frames = [Between(3, 8, step / 4) for step in range(5)]
    made = generate(networks, spec, frames, sampler=how).int()
    ends = generate(networks, spec, [3, 8], sampler=how).int()
    assert (made[[0, -1]] - ends).abs().max() <= 1
    assert (generate(networks, spec, [frames[2]], sampler=how)[0].int() - made[2]).abs().max() <= 1


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    spec, networks = GAN
    image = begun(1, spec.data.image_shape)
    with pytest.raises(SamplingError, match="a GAN makes its images from noise"):
        generate(networks, spec, [1], init=InitImages(image, 0.5))
    for threshold in (0.0, 1.5, math.nan):
        with pytest.raises(SamplingError, match="at most 1"):
            generate(networks, spec, [1], truncation=threshold)
    spec, networks = diffusion()
    with pytest.raises(SamplingError, match="GANs alone"):
        generate(networks, spec, [1], truncation=0.5)
    for stochastic in (SamplerSpec(kind=SamplerKind.DDPM, steps=3), SamplerSpec(steps=3, eta=0.5)):
        with pytest.raises(SamplingError, match="draws no noise of its own"):
            generate(networks, spec, [Between(1, 2, 0.5)], sampler=stochastic)
    for wrong in (InitImages(image, 0.0), InitImages(image.float(), 0.5), InitImages(image[:0], 0.5)):
        with pytest.raises(SamplingError, match=r"strength|init needs"):
            generate(networks, spec, [1], init=wrong)
