"""The one way from a spec to its networks, and what they weigh."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.generator import DCGANGenerator
from models.networks.layers import INITS
from models.spec import DiffusionSpec, GanSpec, JobSpec
from models.spec.diffusion import UnetSpec

SAMPLING_NETWORKS = {"gan": "generator", "diffusion": "network"}
"""The network of each family that makes the images."""

OPTIMIZER_TENSORS = 2
"""Tensors of a weight's size that an optimizer keeps: both moments of Adam and AdamW."""


def build_networks(spec: JobSpec) -> dict[str, nn.Module]:
    """New float32 networks on the current default device: `generator` and `discriminator`, or `network`.

    The weights are drawn from torch's global generator, which the caller seeds.
    """
    channels, resolution, _ = spec.data.image_shape
    if isinstance(spec, DiffusionSpec):
        from models.networks.unet import Denoiser, unet_config  # here: a GAN does without diffusers

        if not isinstance(spec.network, UnetSpec):
            raise NotImplementedError(spec.network.kind)
        return {"network": Denoiser(**unet_config(spec.network, channels=channels, resolution=resolution))}
    made, judge = spec.generator, spec.discriminator
    if made.ngf is None or judge.ndf is None:
        raise ValueError("The spec leaves generator.ngf or discriminator.ndf open: resolve it first.")
    generator = DCGANGenerator(made.nz, made.ngf, channels, resolution)
    discriminator = DCGANDiscriminator(judge.ndf, channels, resolution, judge.output)
    generator.apply(INITS[made.init])
    discriminator.apply(INITS[judge.init])
    return {"generator": generator, "discriminator": discriminator}


def count_parameters(spec: JobSpec) -> dict[str, int]:
    """Trainable values of each network; no memory is taken for them."""
    return {name: _parameters(network) for name, network in _on_meta(spec).items()}


def training_memory_bytes(spec: JobSpec) -> int:
    """An estimate of what one training process holds: weights, gradients, moments, average, activations.

    Activations are what autograd keeps of one part of a batch in float32; for a GAN, of the larger of D's
    step (real and made images) and G's. Libraries and convolution workspaces come on top.
    """
    networks = _on_meta(spec)
    weights = {name: _parameters(network) for name, network in networks.items()}
    averaged = weights[SAMPLING_NETWORKS[spec.family]] if spec.ema is not None else 0
    values = sum(weights.values()) * (2 + OPTIMIZER_TENSORS) + averaged
    return 4 * values + _activation_bytes(spec, networks)


def _on_meta(spec: JobSpec) -> dict[str, nn.Module]:
    with torch.device("meta"):
        return build_networks(spec)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _activation_bytes(spec: JobSpec, networks: Mapping[str, nn.Module]) -> int:
    part = max(1, spec.batch_size // spec.accumulation)
    images = torch.empty(part, *spec.data.image_shape, device="meta")
    if isinstance(spec, GanSpec):
        generator, discriminator = networks["generator"], networks["discriminator"]
        latents = torch.empty(part, spec.generator.nz, device="meta")
        judging = _saved_bytes(networks, lambda: discriminator(images))
        return max(2 * judging, _saved_bytes(networks, lambda: discriminator(generator(latents))))
    timesteps = torch.zeros(part, dtype=torch.long, device="meta")
    return _saved_bytes(networks, lambda: networks["network"](images, timesteps))


def _saved_bytes(networks: Mapping[str, nn.Module], forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of `forward` for its backward pass, the networks' own weights left out."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # the identity of the memory that views share
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    for network in networks.values():
        for tensor in network.state_dict().values():
            storages.pop(tensor.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in storages.values())
