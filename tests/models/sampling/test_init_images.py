"""Sampling that begins with an image, against the exact solution for Gaussian data."""

import pytest
import torch
from torch import Tensor

from models.networks.noise_schedule import Edm, noise_scheduler
from models.sampling.noise import draw, generators
from models.sampling.samplers import ODES, Start, denoise, evaluations, remaining
from models.spec import DiffusionSpec, SamplerKind, SamplerSpec
from models.spec.diffusion import IN_TIMESTEPS, NoiseScheduleKind, Prediction
from tests.models.sampling.ideal import MEAN, SPREAD, ideal, sampler, spec_of

KINDS = NoiseScheduleKind
STOCHASTIC = (SamplerKind.DDPM,)
TIMESTEPS = (SamplerKind.DDPM, SamplerKind.DDIM, SamplerKind.DPMPP, SamplerKind.UNIPC)
WAYS = [
    *((KINDS.COSINE, how) for how in TIMESTEPS),
    *((kind, how) for kind in (KINDS.EDM, KINDS.FLOW) for how in (SamplerKind.EULER, SamplerKind.HEUN)),
]
STEPS = 200
ANCESTRAL_STEPS = 1000  # its variance is right in the limit of many steps only


def begun(spec: DiffusionSpec, how: SamplerSpec, images: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """What sampling makes of images, and the noise that it added to them."""
    sources = generators(range(len(images)))
    noise = draw(sources, spec.data.image_shape)
    start = Start(noise, sources, images, strength)
    with torch.no_grad():
        return denoise(ideal(spec), start, spec, how, None, lambda: None), noise


def shares(spec: DiffusionSpec, how: SamplerSpec, strength: float) -> tuple[float, float]:
    """Of the image and of the noise, where the remaining steps begin."""
    kind, steps = spec.noise_schedule.kind, remaining(how, strength)
    if kind in IN_TIMESTEPS:
        scheduler = noise_scheduler(spec)
        scheduler.set_timesteps(how.steps)
        kept = scheduler.alphas_cumprod[scheduler.timesteps[-steps]].item()
        return kept**0.5, (1 - kept) ** 0.5
    if kind is KINDS.EDM:
        return 1.0, Edm.of(spec).levels(how.steps)[-steps - 1]
    return 1 - steps / how.steps, steps / how.steps


def spec_for(kind: KINDS) -> DiffusionSpec:
    return spec_of(kind, Prediction.V if kind in IN_TIMESTEPS else None)


def images_of_the_data(spec: DiffusionSpec, count: int) -> Tensor:
    source = torch.Generator().manual_seed(5)
    return MEAN + SPREAD * torch.randn((count, *spec.data.image_shape), generator=source)


@pytest.mark.parametrize("strength", [0.25, 0.6, 1.0])
@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_images_of_the_data_become_images_of_the_data(kind: KINDS, how: SamplerKind, strength: float) -> None:
    """Breaks when the noise added is not that of the time at which the remaining steps begin."""
    spec, steps = spec_for(kind), ANCESTRAL_STEPS if how in STOCHASTIC else STEPS
    made, _ = begun(spec, sampler(how, steps), images_of_the_data(spec, 16), strength)
    assert made.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert made.std().item() == pytest.approx(SPREAD, rel=0.05)


@pytest.mark.parametrize("strength", [0.3, 0.8])
@pytest.mark.parametrize(("kind", "how"), [way for way in WAYS if way[1] not in STOCHASTIC])
def test_the_remaining_path_is_followed_to_its_end(kind: KINDS, how: SamplerKind, strength: float) -> None:
    """Gaussians stay Gaussian: from any point of any time the end of the path is known."""
    spec, solver = spec_for(kind), sampler(how, STEPS)
    images = torch.full((2, *spec.data.image_shape), 0.5)
    made, noise = begun(spec, solver, images, strength)
    signal, level = shares(spec, solver, strength)
    seen = signal * images + level * noise
    spread = (signal**2 * SPREAD**2 + level**2) ** 0.5
    exact = MEAN + SPREAD * (seen - signal * MEAN) / spread
    tolerance = 0.02 if spec.noise_schedule.kind is not KINDS.EDM else 0.05
    torch.testing.assert_close(made, exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_a_small_strength_keeps_the_image_and_the_full_one_does_not(kind: KINDS, how: SamplerKind) -> None:
    spec, solver = spec_for(kind), sampler(how, STEPS)
    images = images_of_the_data(spec, 2)
    little, most = (begun(spec, solver, images, strength)[0] for strength in (0.01, 1.0))
    assert (little - images).abs().mean() < 0.25 * SPREAD
    assert (most - images).abs().mean() > 0.75 * SPREAD


@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_the_full_strength_is_plain_generation(kind: KINDS, how: SamplerKind) -> None:
    """Up to what is left of an image at the first time: nothing of `flow`, and hardly anything of others."""
    spec, solver = spec_for(kind), sampler(how, STEPS)
    made, noise = begun(spec, solver, images_of_the_data(spec, 2), 1.0)
    sources = generators(range(2))
    with torch.no_grad():
        start = Start(draw(sources, spec.data.image_shape), sources)
        plain = denoise(ideal(spec), start, spec, solver, None, lambda: None)
    assert torch.equal(noise, start.noise)
    assert (made - plain).abs().max() < (1e-6 if kind is KINDS.FLOW else 0.02)


@pytest.mark.parametrize(
    ("steps", "strength", "count"), [(50, 1.0, 50), (50, 0.5, 25), (50, 1e-9, 1), (30, 0.1, 3), (1, 0.4, 1)]
)
def test_the_share_of_the_steps(steps: int, strength: float, count: int) -> None:
    how = sampler(SamplerKind.DDIM, steps)
    assert (remaining(how, strength), evaluations(how, strength)) == (count, count)


def test_every_equation_begins_where_its_shares_say() -> None:
    """Breaks when a new equation is added whose way is not tried here."""
    assert {kind for kind, how in WAYS if how is SamplerKind.EULER} == set(ODES)
