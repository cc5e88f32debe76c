"""Checkpoints: one safetensors file with every weight and buffer, and the spec in its metadata.

Keys are `generator.main.0.weight`, `discriminator.…`, `network.…`, and `ema.generator.…` or `ema.network.…`
for the averaged network, which is the one that samples. Weights under spectral norm are stored as normalised,
under their plain names. The metadata's single entry, `atelier`, is JSON with the format's version, the spec,
the step and the images shown. Nothing here reads or writes a pickle.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models.networks import SAMPLING_NETWORKS, build_networks
from models.networks.spectral import plain_state_dict
from models.spec import DiffusionSpec, JobSpec, SpecError, load_spec
from models.spec.diffusion import IN_TIMESTEPS, UnetSpec

FILE_NAME = "checkpoint.safetensors"
VERSION = 1
MAX_HEADER_BYTES = 8 * 2**20
"""A header lists a few hundred tensors and one spec; safetensors itself would read 100 MB of JSON."""


class CheckpointError(ValueError):
    """A file that is no usable checkpoint: the message names the file and the reason."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on disk."""

    path: Path
    sha256: str
    size_bytes: int


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
) -> SavedCheckpoint:
    """Write `folder`/checkpoint.safetensors: after a crash at any moment it is whole, or is not there."""
    tensors = _tensors(networks, "") | _tensors(averaged or {}, "ema.")
    about = {"version": VERSION, "spec": spec.model_dump(mode="json"), "step": step, "images": images}
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / FILE_NAME, folder / f".{FILE_NAME}.part"
    safetensors.torch.save_file(tensors, part, {"atelier": json.dumps(about)})
    with part.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    part.replace(path)
    _sync_folder(folder)
    return SavedCheckpoint(path, sha256, path.stat().st_size)


def read_metadata(path: Path) -> dict[str, Any]:
    """The checkpoint's `version`, `spec`, `step` and `images`; no tensor is read. Raises CheckpointError."""
    return _about(path, _header(path))


def load(path: Path, *, device: str | torch.device = "cpu") -> LoadedCheckpoint:
    """The network that samples, on `device`; draws nothing from torch's global generator.

    Raises CheckpointError.
    """
    header = _header(path)
    about = _about(path, header)
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


def export_diffusers(path: Path, folder: Path) -> None:
    """Write the checkpoint into `folder` as diffusers saves a DDPMPipeline, with the weights that sample.

    `DDPMPipeline.from_pretrained(folder)` and DDIMPipeline's then load it offline.
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
    if not isinstance(spec, DiffusionSpec):
        foreign = "a GAN's generator"
    elif not isinstance(spec.network, UnetSpec):
        foreign = f"a network of kind {spec.network.kind}"
    elif spec.noise_schedule.kind not in IN_TIMESTEPS:
        foreign = f"a noise schedule of kind {spec.noise_schedule.kind}"
    elif spec.conditional is not None:
        foreign = "a UNet with labels"
    else:
        return spec
    raise CheckpointError(
        f"{path}: diffusers has no pipeline for {foreign}; download the safetensors file instead."
    )


def _tensors(networks: Mapping[str, nn.Module], prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}{name}.{key}": tensor.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, tensor in plain_state_dict(network).items()
    }


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(path: Path) -> dict[str, Any]:
    """The file's JSON header, checked against the file's size before anything trusts it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(
                    f"{path}: truncated: {size} bytes, and its header alone claims {length}."
                )
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path}: a header of {length} bytes; at most {MAX_HEADER_BYTES} are read."
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not a safetensors file: its header is not JSON.") from error
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise CheckpointError(f"{path}: not a safetensors file: its header is not a table of tensors.")
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass  # checks every offset against the size
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}.") from error
    return header


def _about(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    text = header.get("__metadata__", {}).get("atelier")
    if text is None:
        raise CheckpointError(
            f"{path}: a safetensors file that Atelier did not write: its metadata has no `atelier`."
        )
    try:
        about = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its `atelier` metadata is not JSON.") from error
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: its `atelier` metadata is not of version {VERSION}: use a newer Atelier."
        )
    counts = [about.get("step"), about.get("images")]
    if not isinstance(about.get("spec"), dict) or not all(
        type(count) is int and count >= 0 for count in counts
    ):
        raise CheckpointError(f"{path}: its `atelier` metadata lacks a spec, a step or a number of images.")
    return about


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
