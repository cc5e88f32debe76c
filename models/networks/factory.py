"""The one way from a spec to its networks, and what they weigh."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.networks.discriminator import DCGANDiscriminator
from models.networks.dit import DiffusionTransformer
from models.networks.generator import DCGANGenerator
from models.networks.initialisation import INITS
from models.spec import DiffusionSpec, GanSpec, JobSpec
from models.spec.diffusion import DitSpec
from models.spec.optimizer import OptimizerKind, OptimizerSpec

SAMPLING_NETWORKS = {"gan": "generator", "diffusion": "network"}
"""The network of each family that makes the images."""

OPTIMIZER_TENSORS = {
    OptimizerKind.ADAM: 2,
    OptimizerKind.ADAMW: 2,
    OptimizerKind.RMSPROP: 1,
    OptimizerKind.SGD: 0,
}
"""Tensors of a weight's size that an optimizer keeps: its moments. Momentum is one more."""


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
    trained = sum(count * (2 + _moments(_optimizer(spec, name))) for name, count in weights.items())
    return 4 * (trained + averaged) + _activation_bytes(spec, networks)


def _classes(spec: JobSpec) -> int | None:
    if spec.conditional is None:
        return None
    if spec.conditional.classes is None:
        raise ValueError("The spec leaves conditional.classes open: resolve it first.")
    return spec.conditional.classes


def _optimizer(spec: JobSpec, name: str) -> OptimizerSpec:
    own = getattr(spec.optimizers, name) if isinstance(spec, GanSpec) else None
    return own or spec.optimizer


def _moments(optimizer: OptimizerSpec) -> int:
    return OPTIMIZER_TENSORS[optimizer.kind] + (1 if optimizer.momentum else 0)


def _on_meta(spec: JobSpec) -> dict[str, nn.Module]:
    with torch.device("meta"):
        return build_networks(spec)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _activation_bytes(spec: JobSpec, networks: Mapping[str, nn.Module]) -> int:
    part = max(1, spec.batch_size // spec.accumulation)
    images = torch.empty(part, *spec.data.image_shape, device="meta")
    labels = torch.zeros(part, dtype=torch.long, device="meta")
    if isinstance(spec, GanSpec):
        generator, discriminator = networks["generator"], networks["discriminator"]
        latents = torch.empty(part, spec.generator.nz, device="meta")
        judging = _saved_bytes(networks, lambda: discriminator(images, labels))
        making = _saved_bytes(networks, lambda: discriminator(generator(latents, labels), labels))
        return max(2 * judging, making)
    times = torch.zeros(part, dtype=torch.long, device="meta")
    return _saved_bytes(networks, lambda: networks["network"](images, times, labels))


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
