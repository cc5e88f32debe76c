"""From a spec to its networks: counts, memory, devices, and what a GAN does not import."""

import subprocess
import sys

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from models.networks import build_networks, count_parameters, training_memory_bytes
from models.networks.factory import _saved_bytes
from models.networks.noise_schedule import noise_scheduler
from models.networks.unet import unet_config
from models.presets import plan
from models.spec import BUILTIN_DATASETS, DiffusionSpec, GanSpec, JobSpec
from models.spec.diffusion import NoiseScheduleKind

SPECS = {
    "dcgan": {"preset": "dcgan", "generator": {"ngf": 8}, "discriminator": {"ndf": 8}},
    "dcgan-vanilla, 64 px RGB": {"preset": "dcgan-vanilla", "data": {"resolution": 64, "channels": 3}},
    "ddpm": {"preset": "ddpm"},
    "ddpm with attention": {"preset": "ddpm", "network": {"attention_resolutions": [8, 4], "channels": 16}},
}


def _spec(name: str) -> JobSpec:
    return plan(SPECS[name], BUILTIN_DATASETS.get).spec


@pytest.mark.parametrize("name", SPECS)
def test_counts_are_those_of_the_real_networks(name: str) -> None:
    real = build_networks(_spec(name))
    assert count_parameters(_spec(name)) == {
        key: sum(parameter.numel() for parameter in network.parameters()) for key, network in real.items()
    }


@pytest.mark.parametrize("name", SPECS)
def test_no_tensor_is_made_on_another_device(name: str) -> None:
    """Networks built and run on the meta device: a tensor made on the CPU inside would raise, as on a GPU."""
    spec = _spec(name)
    with torch.device("meta"):
        networks = build_networks(spec)
    assert all(tensor.is_meta for network in networks.values() for tensor in network.state_dict().values())
    images = torch.empty(2, *spec.data.image_shape, device="meta")
    if isinstance(spec, GanSpec):
        made = networks["generator"](torch.empty(2, spec.generator.nz, device="meta"))
        assert networks["discriminator"](made).shape == (2,)
    else:
        made = networks["network"](images, torch.zeros(2, dtype=torch.long, device="meta"))
    assert made.is_meta
    assert made.shape == images.shape


@pytest.mark.parametrize("name", SPECS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(3)
        networks = build_networks(_spec(name)).values()
        return [tensor for network in networks for tensor in network.state_dict().values()]

    assert all(torch.equal(first, second) for first, second in zip(weights(), weights(), strict=True))


@pytest.mark.parametrize("name", SPECS)
def test_asking_for_sizes_draws_nothing(name: str) -> None:
    """A dry run in a training process must not change the training."""
    before = torch.get_rng_state()
    count_parameters(_spec(name))
    training_memory_bytes(_spec(name))
    assert torch.equal(torch.get_rng_state(), before)


def test_activation_bytes_on_meta_are_those_really_kept() -> None:
    def kept(device: str) -> int:
        with torch.device(device):
            networks = build_networks(_spec("ddpm"))
            images, times = torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.long)
        return _saved_bytes(networks, lambda: networks["network"](images, times))

    assert kept("meta") == pytest.approx(kept("cpu"), rel=0.05)


def test_memory_grows_with_the_batch_and_falls_with_accumulation() -> None:
    def size(**changes: object) -> int:
        return training_memory_bytes(plan({**SPECS["ddpm"], **changes}, BUILTIN_DATASETS.get).spec)

    assert size(batch_size=128) > 1.8 * size(batch_size=64)
    assert size(batch_size=128, accumulation=2) == size(batch_size=64)


def test_the_denoiser_is_diffusers_own_network() -> None:
    """The same names and answers as UNet2DModel, so that the exported folder holds the same model."""
    spec = _spec("ddpm with attention")
    assert isinstance(spec, DiffusionSpec)
    ours = build_networks(spec)["network"].eval()
    theirs = UNet2DModel(**unet_config(spec.network, channels=1, resolution=16)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images, times = torch.randn(2, 1, 16, 16), torch.tensor([3, 700])
    assert torch.equal(ours(images, times), theirs(images, times).sample)
    kinds = [type(block).__name__ for block in theirs.down_blocks]
    assert kinds == ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]


def test_without_attention_resolutions_nothing_attends() -> None:
    spec = plan({"preset": "ddpm", "network": {"attention_resolutions": []}}, BUILTIN_DATASETS.get).spec
    assert not any("attention" in name for name in build_networks(spec)["network"].state_dict())


@pytest.mark.parametrize("kind", [NoiseScheduleKind.LINEAR, NoiseScheduleKind.COSINE])
def test_noise_schedules_are_the_published_ones(kind: NoiseScheduleKind) -> None:
    raw = {"preset": "ddpm", "noise_schedule": {"kind": kind.value, "timesteps": 500}}
    spec = plan(raw, BUILTIN_DATASETS.get).spec
    assert isinstance(spec, DiffusionSpec)
    scheduler = noise_scheduler(spec)
    assert isinstance(scheduler, DDPMScheduler)
    kept = scheduler.alphas_cumprod
    assert len(kept) == 500
    if kind is NoiseScheduleKind.LINEAR:
        expected = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 500), dim=0)
    else:
        time = (torch.arange(1, 501, dtype=torch.float64) / 500 + 0.008) / 1.008
        expected = (
            torch.cos(time * torch.pi / 2) ** 2 / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2
        )
    assert torch.allclose(kept[:-1].double(), expected[:-1].double(), atol=1e-5)


def test_a_gan_never_imports_diffusers() -> None:
    """It takes seconds and 100 MB, which a worker that samples GANs need not pay."""
    program = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from models import checkpoints
from models.networks import build_networks, count_parameters, training_memory_bytes
from models.presets import plan
from models.sampling import generate
from models.sampling.pictures import encode, grid
from models.spec import BUILTIN_DATASETS
spec = plan({"preset": "dcgan", "generator": {"ngf": 4}}, BUILTIN_DATASETS.get).spec
count_parameters(spec), training_memory_bytes(spec)
with TemporaryDirectory() as folder:
    networks = build_networks(spec)
    saved = checkpoints.save(Path(folder), spec=spec, step=1, images=64, networks=networks, averaged=None)
    encode(grid(generate(checkpoints.load(saved.path).networks, spec, [1, 2])), "png")
assert "diffusers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
