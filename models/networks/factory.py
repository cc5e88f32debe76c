"""The one way from a spec to its networks."""

from collections.abc import Mapping

from torch import nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.dit import DiffusionTransformer
from models.networks.generator import DCGANGenerator
from models.networks.initialisation import INITS
from models.spec import DiffusionSpec, JobSpec
from models.spec.diffusion import DitSpec

SAMPLING_NETWORKS = {"gan": "generator", "diffusion": "network"}
"""The network of each family that makes the images."""


def build_networks(spec: JobSpec) -> dict[str, nn.Module]:
    """New float32 networks on the current default device: `generator` and `discriminator`, or `network`.

    The weights are drawn from torch's global generator, which the caller seeds.
    """
    channels, resolution, _ = spec.data.image_shape
    classes = _classes(spec)
    if isinstance(spec, DiffusionSpec):
        if isinstance(spec.network, DitSpec):
            return {"network": DiffusionTransformer(spec.network, channels, resolution, classes=classes)}
        from models.networks.unet import Denoiser, unet_config  # here: a GAN does without diffusers

        config = unet_config(spec.network, channels=channels, resolution=resolution, classes=classes)
        return {"network": Denoiser(**config)}
    generator = DCGANGenerator(spec.generator, channels, resolution, classes=classes, low=spec.data.range[0])
    discriminator = DCGANDiscriminator(spec.discriminator, channels, resolution, classes=classes)
    generator.apply(INITS[spec.generator.init])
    discriminator.apply(INITS[spec.discriminator.init])
    return {"generator": generator, "discriminator": discriminator}


def compile_networks(networks: Mapping[str, nn.Module]) -> None:
    """Have torch.compile translate each forward pass at its first call; all names stay as they are."""
    for network in networks.values():
        network.compile()


def _classes(spec: JobSpec) -> int | None:
    if spec.conditional is None:
        return None
    if spec.conditional.classes is None:
        raise ValueError("The spec leaves conditional.classes open: resolve it first.")
    return spec.conditional.classes
