"""safetensors files with a JSON object in their metadata: written whole or not at all, read warily."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from models.durable import SavedFile, sync

VERSION = 1
MAX_HEADER_BYTES = 8 * 2**20
"""A header lists a few hundred tensors and one spec; safetensors itself would read 100 MB of JSON."""


class CheckpointError(ValueError):
    """A file that is no usable checkpoint: the message names the file and the reason."""


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> SavedFile:
    """Write the tensors, and `about` as JSON: after a crash at any moment it is whole, or is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    safetensors.torch.save_file(stored, part, {"atelier": json.dumps({"version": VERSION, **about})})
    with part.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    part.replace(path)
    sync(path.parent)
    return SavedFile(path, sha256, path.stat().st_size)


def read_header(path: Path) -> dict[str, Any]:
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


def read_about(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """What a file with this header tells of itself: `version`, `spec`, `step`, `images`, and what else."""
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
