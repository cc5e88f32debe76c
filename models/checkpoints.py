"""Checkpoints: one safetensors file with every weight and buffer, and the spec in its metadata.

Keys are `generator.main.0.weight`, `discriminator.…`, `network.…`, and `ema.generator.…` or `ema.network.…`
for the averaged network, which is the one that samples. Weights under spectral norm are stored as normalised,
under their plain names. The metadata's single entry, `atelier`, is JSON with the format's version, the spec,
the step and the images shown. Nothing here reads or writes a pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from models import tensor_files
from models.durable import SavedFile
from models.networks import SAMPLING_NETWORKS, build_networks
from models.networks.spectral import plain_state_dict
from models.spec import DiffusionSpec, JobSpec, SpecError, load_spec
from models.spec.exporting import foreign_to_diffusers
from models.tensor_files import CheckpointError, read_about, read_header

__all__ = [
    "CheckpointError",
    "LoadedCheckpoint",
    "export_diffusers",
    "load",
    "load_weights",
    "read_metadata",
    "save",
]

FILE_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory: its sampling network, averaged if it was averaged, in eval mode."""

    spec: JobSpec
    step: int
    images: int
    networks: dict[str, nn.Module]


def save(
    folder: Path,
    *,
    spec: JobSpec,
    step: int,
    images: int,
    networks: Mapping[str, nn.Module],
    averaged: Mapping[str, nn.Module] | None,
) -> SavedFile:
    """Write `folder`/checkpoint.safetensors: after a crash at any moment it is whole, or is not there."""
    tensors = _tensors(networks, "") | _tensors(averaged or {}, "ema.")
    about = {"spec": spec.model_dump(mode="json"), "step": step, "images": images}
    return tensor_files.write(folder / FILE_NAME, tensors, about)


def read_metadata(path: Path) -> dict[str, Any]:
    """The checkpoint's `version`, `spec`, `step` and `images`; no tensor is read. Raises CheckpointError."""
    return read_about(path, read_header(path))


def load(path: Path, *, device: str | torch.device = "cpu") -> LoadedCheckpoint:
    """The network that samples, on `device`; draws nothing from torch's global generator.

    Raises CheckpointError.
    """
    header = read_header(path)
    about = read_about(path, header)
    spec = _spec(path, about)
    name = SAMPLING_NETWORKS[spec.family]
    prefix = f"ema.{name}." if any(key.startswith("ema.") for key in header) else f"{name}."
    try:
        with torch.device("meta"):
            network = build_networks(spec)[name]
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no network can be built from its spec: {error}") from error
    _compare(path, header, prefix, network.state_dict())
    with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
        state = {key: file.get_tensor(prefix + key).clone() for key in network.state_dict()}
    network.load_state_dict(state, strict=True, assign=True)
    return LoadedCheckpoint(spec, about["step"], about["images"], {name: network.eval()})


def load_weights(path: Path, networks: Mapping[str, nn.Module]) -> None:
    """Start new networks, as `build_networks` makes them, from the checkpoint's weights as they were trained.

    Raises CheckpointError where they are not those of networks like these.
    """
    header = read_header(path)
    with safetensors.safe_open(path, framework="pt") as file, torch.no_grad():
        for name, network in networks.items():
            live = network.state_dict()
            _compare(path, header, f"{name}.", live)
            for key, tensor in live.items():
                tensor.copy_(file.get_tensor(f"{name}.{key}"))


def export_diffusers(path: Path, folder: Path) -> None:
    """Write the checkpoint into `folder` as diffusers saves a DDPMPipeline, with the weights that sample.

    `DDPMPipeline.from_pretrained(folder)` and DDIMPipeline's then load it offline; the second one
    makes the images of `ddim` with `use_clipped_model_output=True`.
    Raises CheckpointError for models that diffusers has no pipeline for.
    """
    spec = _exportable(path)
    from diffusers import DDPMPipeline, UNet2DModel  # here: a GAN does without diffusers

    from models.networks.noise_schedule import noise_scheduler

    network: Any = load(path).networks["network"]
    with torch.device("meta"):
        unet = UNet2DModel.from_config(network.config)
    unet.load_state_dict(network.state_dict(), strict=True, assign=True)
    DDPMPipeline(unet=unet.eval(), scheduler=noise_scheduler(spec)).save_pretrained(folder)


def _exportable(path: Path) -> DiffusionSpec:
    """The spec of a checkpoint that diffusers' pipelines for one unconditional UNet can sample."""
    spec = _spec(path, read_metadata(path))
    foreign = foreign_to_diffusers(spec)
    if foreign is None and isinstance(spec, DiffusionSpec):
        return spec
    raise CheckpointError(
        f"{path}: diffusers has no pipeline for {foreign}; download the safetensors file instead."
    )


def _tensors(networks: Mapping[str, nn.Module], prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}{name}.{key}": tensor
        for name, network in networks.items()
        for key, tensor in plain_state_dict(network).items()
    }


def _spec(path: Path, about: Mapping[str, Any]) -> JobSpec:
    try:
        return load_spec(about["spec"])
    except SpecError as error:
        raise CheckpointError(f"{path}: its spec is not valid: {error}") from error


def _compare(path: Path, header: Mapping[str, Any], prefix: str, expected: Mapping[str, Tensor]) -> None:
    """Refuse a file whose tensors under `prefix` are not exactly the network's in name, shape and type."""
    found = {
        key.removeprefix(prefix): (entry.get("dtype"), entry.get("shape"))
        for key, entry in header.items()
        if key.startswith(prefix)
    }
    types = {torch.float32: "F32", torch.int64: "I64"}
    wanted = {key: (types[tensor.dtype], list(tensor.shape)) for key, tensor in expected.items()}
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise CheckpointError(
                f"{path}: the spec's network needs {prefix}{key} as {wanted.get(key, 'nothing')}, "
                f"the file has {found.get(key, 'nothing')}."
            )
