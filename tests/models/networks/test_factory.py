"""From a spec to its networks: devices, seeds, and the noise schedules."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn

from models.networks import build_networks
from models.networks.noise_schedule import noise_scheduler
from models.networks.unet import unet_config
from models.presets import plan
from models.spec import BUILTIN_DATASETS, DiffusionSpec, GanSpec
from models.spec.diffusion import NoiseScheduleKind
from tests.models.networks.specs import SPECS, spec_of


@pytest.mark.parametrize("name", SPECS)
def test_no_tensor_is_made_on_another_device(name: str) -> None:
    """Networks built and run on the meta device: a tensor made on the CPU inside would raise, as on a GPU."""
    spec = spec_of(name)
    with torch.device("meta"):
        networks = build_networks(spec)
    assert all(tensor.is_meta for network in networks.values() for tensor in network.state_dict().values())
    images = torch.empty(2, *spec.data.image_shape, device="meta")
    labels = torch.zeros(2, dtype=torch.long, device="meta")
    if isinstance(spec, GanSpec):
        made = networks["generator"](torch.empty(2, spec.generator.nz, device="meta"), labels)
        assert networks["discriminator"](made, labels).shape == (2,)
    else:
        made = networks["network"](images, labels, labels)
    assert made.is_meta
    assert made.shape == images.shape


def test_initial_weights_are_those_of_the_classical_recipe() -> None:
    """pytorch/examples' weights_init on networks built in the order G, D, to the last bit: a preset's loss
    curve depends on them."""
    spec = plan({"preset": "dcgan-vanilla", "data": {"resolution": 64}}, BUILTIN_DATASETS.get).spec
    torch.manual_seed(3)
    networks = build_networks(spec)
    torch.manual_seed(3)
    classical = {"generator": _classical_generator(64), "discriminator": _classical_discriminator(64)}
    for name, network in classical.items():
        network.apply(_classical_init)
        state = networks[name].main.state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def _classical_generator(width: int) -> nn.Sequential:
    widths = [100, 8 * width, 4 * width, 2 * width, width, 1]
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2 if index else 1, 1 if index else 0, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers[:-2], nn.Tanh())


def _classical_discriminator(width: int) -> nn.Sequential:
    widths = [1, width, 2 * width, 4 * width, 8 * width, 1]
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers += [nn.Conv2d(before, after, 4, 1 if last else 2, 0 if last else 1, bias=False)]
        layers += [nn.BatchNorm2d(after)] if index > 0 and not last else []
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def _classical_init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.constant_(layer.bias, 0)


@pytest.mark.parametrize("name", SPECS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(3)
        networks = build_networks(spec_of(name)).values()
        return [tensor for network in networks for tensor in network.state_dict().values()]

    assert all(torch.equal(first, second) for first, second in zip(weights(), weights(), strict=True))


def test_the_denoiser_is_diffusers_own_network() -> None:
    """The same names and answers as UNet2DModel, so that the exported folder holds the same model."""
    spec = spec_of("ddpm with attention")
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
