"""The network that samples as an ONNX model or a torch.export program, with a batch of any size."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from models.checkpoints import load, read_metadata
from models.networks import SAMPLING_NETWORKS
from models.spec import DiffusionSpec, JobSpec
from models.spec.diffusion import UnetSpec

ONNX_FILE = "model.onnx"
PROGRAM_FILE = "model.pt2"
SPEC_FILE = "atelier.json"
"""The extra file in a torch.export program that holds what a checkpoint's metadata holds."""

UNET_BATCH = 63
"""diffusers' UNet goes another way with 64 images and more, and a program holds one way only.

ONNX has no such bound: what differs is the layout in memory, which it has none of.
"""

_one_at_a_time = threading.Lock()  # torch's tracing replaces functions of the whole process


def export_onnx(path: Path, folder: Path) -> None:
    """Write the checkpoint's sampling network as `folder`/model.onnx, the spec in its metadata.

    Raises CheckpointError.
    """
    loaded = load(path)
    inputs = blank_inputs(loaded.spec, 2)
    with _one_at_a_time:
        program = torch.onnx.export(
            _traced(loaded.networks[SAMPLING_NETWORKS[loaded.spec.family]], loaded.spec),
            input_names=list(inputs),
            output_names=[output_name(loaded.spec)],
            # Named once: all inputs share the axis.
            dynamic_shapes=({0: "batch"}, *({} for _ in range(len(inputs) - 1))),
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export has made no program")
        program.model.metadata_props["atelier"] = json.dumps(read_metadata(path))
        program.save(folder / ONNX_FILE)


def export_program(path: Path, folder: Path) -> None:
    """Write the checkpoint's sampling network as `folder`/model.pt2, the spec in its `atelier.json`.

    Raises CheckpointError.
    """
    loaded = load(path)
    about = {SPEC_FILE: json.dumps(read_metadata(path))}
    with _one_at_a_time:
        program = _traced(loaded.networks[SAMPLING_NETWORKS[loaded.spec.family]], loaded.spec)
        torch.export.save(program, folder / PROGRAM_FILE, extra_files=about)


def blank_inputs(spec: JobSpec, count: int) -> Mapping[str, Tensor]:
    """Zeros as inputs of a spec's sampling network by name, in the order in which it takes them."""
    inputs: dict[str, Tensor] = {}
    if isinstance(spec, DiffusionSpec):
        inputs["images"] = torch.zeros(count, *spec.data.image_shape)
        inputs["time"] = torch.zeros(count)
    else:
        inputs["latents"] = torch.zeros(count, spec.generator.nz)
    if spec.conditional is not None:
        inputs["labels"] = torch.zeros(count, dtype=torch.long)
    return inputs


def output_name(spec: JobSpec) -> str:
    return "prediction" if isinstance(spec, DiffusionSpec) else "images"


def _traced(network: nn.Module, spec: JobSpec) -> ExportedProgram:
    narrow = isinstance(spec, DiffusionSpec) and isinstance(spec.network, UnetSpec)
    batch: Any = torch.export.Dim("batch", max=UNET_BATCH) if narrow else torch.export.Dim("batch")
    inputs = tuple(blank_inputs(spec, 2).values())
    with torch.no_grad():
        return torch.export.export(network, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
