"""Image i depends on the network, its own seed and the sampler alone."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks import build_networks
from models.networks.noise_schedule import noise_scheduler
from models.presets import plan
from models.sampling import SamplingError, generate
from models.sampling.generate import GAN_CHUNK, to_uint8
from models.sampling.samplers import SAMPLERS
from models.spec import BUILTIN_DATASETS, DiffusionSpec, JobSpec, SamplerKind, SamplerSpec

STOCHASTIC = [SamplerSpec(kind=SamplerKind.DDPM, steps=8), SamplerSpec(steps=5, eta=0.7)]
DETERMINISTIC = SamplerSpec(kind=SamplerKind.DDIM, steps=5)


def _spec(raw: Mapping[str, Any]) -> JobSpec:
    return plan(raw, BUILTIN_DATASETS.get).spec


def _gan(resolution: int = 32, channels: int = 3) -> tuple[JobSpec, dict[str, nn.Module]]:
    data = {"resolution": resolution, "channels": channels}
    spec = _spec({"preset": "dcgan", "data": data, "generator": {"ngf": 16, "init": "kaiming"}})
    torch.manual_seed(0)
    networks = build_networks(spec)
    networks["generator"](
        torch.randn(64, 100)
    )  # BatchNorm's statistics are those of a batch, as after training
    return spec, networks


def _diffusion() -> tuple[JobSpec, dict[str, nn.Module]]:
    spec = _spec({"preset": "ddpm", "network": {"channels": 8, "attention_resolutions": [4], "dropout": 0.3}})
    torch.manual_seed(0)
    return spec, build_networks(spec)


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 3), (64, 1)])
def test_a_gans_bytes_depend_on_the_seed_alone(resolution: int, channels: int) -> None:
    spec, networks = _gan(resolution, channels)
    seeds = list(range(100, 164))
    together = generate(networks, spec, seeds)
    assert together.shape == (64, channels, resolution, resolution)
    assert together.dtype == torch.uint8
    assert together.float().std() > 10
    assert torch.equal(generate(networks, spec, seeds[::-1]), together.flip(0))
    assert torch.equal(generate(networks, spec, seeds[3:10]), together[3:10])
    for index in (0, 5, GAN_CHUNK - 1, GAN_CHUNK, 63):
        assert torch.equal(generate(networks, spec, [seeds[index]])[0], together[index])
    assert len({image.numpy().tobytes() for image in together}) == 64


@pytest.mark.parametrize("sampler", [*STOCHASTIC, DETERMINISTIC], ids=["ddpm", "ddim noisy", "ddim"])
def test_a_diffusion_models_image_is_the_same_alone_and_among_others(sampler: SamplerSpec) -> None:
    """One random stream for a whole batch, the usual way, would give another image to every n."""
    spec, networks = _diffusion()
    seeds = [7, 3, 11, 5, 2**53 - 1]
    together = generate(networks, spec, seeds, sampler=sampler).int()
    for index in (0, 2, 4):
        alone = generate(networks, spec, [seeds[index]], sampler=sampler)[0].int()
        assert (alone - together[index]).abs().max() <= 1
    backwards = generate(networks, spec, seeds[::-1], sampler=sampler).int().flip(0)
    assert (backwards - together).abs().max() <= 1
    assert (together[0] - together[1]).abs().max() > 1


def test_more_images_than_one_chunk() -> None:
    spec, networks = _diffusion()
    few = SamplerSpec(steps=2)
    together = generate(networks, spec, range(70), sampler=few).int()
    assert together.shape == (70, 1, 16, 16)
    assert (generate(networks, spec, [69], sampler=few)[0].int() - together[69]).abs().max() <= 1


def test_the_sampler_matters_and_the_specs_own_is_the_default() -> None:
    spec, networks = _diffusion()
    images = [generate(networks, spec, [1], sampler=sampler) for sampler in [*STOCHASTIC, DETERMINISTIC]]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])
    short = spec.model_copy(update={"sampler": DETERMINISTIC})
    assert torch.equal(generate(networks, short, [1]), images[2])


@pytest.mark.parametrize("make", [_gan, _diffusion])
def test_sampling_leaves_training_as_it_was(make: Any) -> None:
    """Modes, BatchNorm's statistics or the global generator changed would change what training does next."""
    spec, networks = make()
    network = networks.get("generator", networks.get("network"))
    network.train()
    next(iter(network.children())).eval()
    modes = [module.training for module in network.modules()]
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    sampler = None if "generator" in networks else DETERMINISTIC
    first = generate(networks, spec, [1, 2], sampler=sampler)
    assert torch.equal(torch.get_rng_state(), random)
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
    assert torch.equal(generate(networks, spec, [1, 2], sampler=sampler), first)


class _IdealForGaussians(nn.Module):
    """The best prediction of the noise in x for data N(0, spread²): linear in x."""

    def __init__(self, spec: DiffusionSpec, spread: float) -> None:
        super().__init__()
        self.kept = nn.Parameter(noise_scheduler(spec).alphas_cumprod)
        self.spread = spread

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        kept = self.kept[timestep]
        return x * (1 - kept).sqrt() / (kept * self.spread**2 + 1 - kept)


@pytest.mark.parametrize(
    "sampler",
    [SamplerSpec(kind=SamplerKind.DDPM, steps=1000), SamplerSpec(steps=200), SamplerSpec(steps=1000, eta=1)],
)
def test_the_ideal_denoiser_of_gaussian_data_gives_that_data(sampler: SamplerSpec) -> None:
    """A wrong coefficient anywhere in a sampler shows in the spread, which is known exactly."""
    spec, _ = _diffusion()
    assert isinstance(spec, DiffusionSpec)
    ideal = {"network": _IdealForGaussians(spec, spread=0.25)}
    images = generate(ideal, spec, range(64), sampler=sampler).float() / 127.5 - 1
    assert images.std().item() == pytest.approx(0.25, rel=0.04)
    assert abs(images.mean().item()) < 0.01


def test_progress_counts_evaluations_to_the_end() -> None:
    spec, networks = _diffusion()
    seen: list[tuple[int, int]] = []
    generate(
        networks,
        spec,
        range(3),
        sampler=DETERMINISTIC,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 5) for done in range(1, 6)]
    spec, networks = _gan()
    seen.clear()
    generate(networks, spec, range(GAN_CHUNK + 1), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("make", [_gan, _diffusion])
def test_no_seeds_are_no_images(make: Any) -> None:
    spec, networks = make()
    assert generate(networks, spec, []).shape == (0, *spec.data.image_shape)


def test_what_cannot_be_sampled_is_refused_with_the_reason() -> None:
    gan, networks = _gan()
    with pytest.raises(SamplingError, match="takes no sampler"):
        generate(networks, gan, [1], sampler=DETERMINISTIC)
    with pytest.raises(SamplingError, match="without labels"):
        generate(networks, gan, [1], labels=[3])
    diffusion, denoiser = _diffusion()
    with pytest.raises(SamplingError, match="timesteps of the model"):
        generate(denoiser, diffusion, [1], sampler=SamplerSpec(steps=1001))


def test_a_diverged_network_is_an_error_not_a_black_picture() -> None:
    spec, networks = _gan()
    nn.init.constant_(networks["generator"].main[0].weight, math.nan)
    with pytest.raises(SamplingError, match="diverged"):
        generate(networks, spec, [1])


def test_bytes_are_rounded_and_clipped() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 1 / 255])
    assert to_uint8(values).tolist() == [0, 0, 128, 255, 255, 128]


def test_every_sampler_is_in_the_table() -> None:
    assert set(SAMPLERS) == set(SamplerKind)
