"""What networks weigh, and what training them takes, from the spec alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.networks.factory import SAMPLING_NETWORKS, build_networks
from models.spec import DiffusionSpec, GanSpec, JobSpec
from models.spec.optimizer import OptimizerKind, OptimizerSpec

OPTIMIZER_TENSORS = {
    OptimizerKind.ADAM: 2,
    OptimizerKind.ADAMW: 2,
    OptimizerKind.RMSPROP: 1,
    OptimizerKind.SGD: 0,
}
"""Tensors of a weight's size that an optimizer keeps: its moments. Momentum is one more."""


def count_parameters(spec: JobSpec) -> dict[str, int]:
    """Trainable values of each network; no memory is taken for them."""
    return {name: _parameters(network) for name, network in _on_meta(spec).items()}


def training_memory_bytes(spec: JobSpec) -> int:
    """An estimate of what one training process holds: weights, gradients, moments, average, activations.

    Activations are what autograd keeps of one part of a batch in float32; for a GAN, of the largest of D's
    step (real and made images, and penalties), G's, and that of a lazy penalty. Libraries and convolution
    workspaces come on top.
    """
    networks = _on_meta(spec)
    weights = {name: _parameters(network) for name, network in networks.items()}
    averaged = weights[SAMPLING_NETWORKS[spec.family]] if spec.ema is not None else 0
    trained = sum(count * (2 + _moments(_optimizer(spec, name))) for name, count in weights.items())
    return 4 * (trained + averaged) + _activation_bytes(spec, networks)


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
    if isinstance(spec, DiffusionSpec):
        times = torch.zeros(part, dtype=torch.long, device="meta")
        return saved_bytes(networks, lambda: networks["network"](images, times, labels))
    generator, discriminator = networks["generator"], networks["discriminator"]
    latents = torch.empty(part, spec.generator.nz, device="meta")

    def image_gradient() -> Tensor:
        inputs = images.clone().requires_grad_()
        scores = discriminator(inputs, labels).sum()
        return torch.autograd.grad(scores, inputs, create_graph=True)[0]

    judging = 2 * saved_bytes(networks, lambda: discriminator(images, labels))
    making = saved_bytes(networks, lambda: discriminator(generator(latents, labels), labels))
    penalising = saved_bytes(networks, image_gradient) if spec.penalties else 0
    judging += penalising * sum(penalty.every == 1 for penalty in spec.penalties)
    return max(judging, making, penalising)


def saved_bytes(networks: Mapping[str, nn.Module], forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of `forward` for its backward pass, the networks' own weights left out."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # the identity of the memory that views share
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
        result = forward()
    del result
    for network in networks.values():
        for tensor in network.state_dict().values():
            storages.pop(tensor.untyped_storage()._cdata, None)
    return sum(storage.nbytes() for storage in storages.values())


class _FusedAttention(TorchFunctionMode):
    """Attention as every real device computes it, without keeping its weights; meta would keep them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        if func is F.scaled_dot_product_attention:
            inputs = [*args, *(arguments[name] for name in ("query", "key", "value")[len(args) :])]
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*inputs[:3])[0]
        return func(*args, **arguments)
