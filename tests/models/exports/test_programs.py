"""onnxruntime and torch.export give what the network gives, for every kind of network and any batch."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models import checkpoints
from models.exports.programs import UNET_BATCH, blank_inputs, export_onnx, export_program, output_name
from models.networks import SAMPLING_NETWORKS, build_networks
from models.presets import plan
from models.sampling import generate
from models.spec import BUILTIN_DATASETS, DiffusionSpec, JobSpec
from models.spec.diffusion import UnetSpec

TINY_UNET = {"channels": 8, "multipliers": [1, 2], "norm_groups": 4}
SPECS = {
    "dcgan": {"preset": "dcgan", "generator": {"ngf": 8}},
    "a conditional dcgan": {"preset": "dcgan", "generator": {"ngf": 8}, "conditional": {}},
    "a GAN of everything else": {
        "preset": "dcgan",
        "generator": {"ngf": 8, "norm": "group", "attention_resolutions": [8], "dropout": 0.1},
        "discriminator": {"norm": "instance"},
        "conditional": {},
        "data": {"channels": 3, "range": [0, 1]},
    },
    "ddpm": {"preset": "ddpm", "network": TINY_UNET},
    "edm": {"preset": "edm", "network": TINY_UNET},
    "a conditional UNet with attention": {
        "preset": "ddpm",
        "network": {**TINY_UNET, "attention_resolutions": [8], "dropout": 0.1},
        "conditional": {},
    },
    "flow-dit": {"preset": "flow-dit", "network": {"width": 32, "depth": 2}},
    "a conditional transformer": {
        "preset": "flow-dit",
        "network": {"width": 32, "depth": 2},
        "conditional": {},
    },
}

Run = Callable[[dict[str, Tensor]], Tensor]


def saved(folder: Path, name: str) -> Path:
    """A checkpoint with averaged weights that are others, and none of them 0."""
    spec = plan({**SPECS[name], "seed": 1}, BUILTIN_DATASETS.get).spec
    torch.manual_seed(0)
    networks, averaged = build_networks(spec), build_networks(spec)
    averaged.pop("discriminator", None)
    for network in averaged.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return checkpoints.save(folder, spec=spec, step=3, images=192, networks=networks, averaged=averaged).path


def random_inputs(spec: JobSpec, count: int) -> dict[str, Tensor]:
    """Times from both ends of the schedule, and every label."""
    inputs = {
        name: torch.randn_like(blank) for name, blank in blank_inputs(spec, count).items() if name != "labels"
    }
    if "time" in inputs:
        inputs["time"] = torch.linspace(0, 999, count)
    if spec.conditional is not None:
        assert spec.conditional.classes is not None
        inputs["labels"] = torch.arange(count) % spec.conditional.classes
    return inputs


def check(path: Path, run: Run, counts: tuple[int, ...], tolerance: float) -> None:
    loaded = checkpoints.load(path)
    network = loaded.networks[SAMPLING_NETWORKS[loaded.spec.family]]
    for count in counts:
        inputs = random_inputs(loaded.spec, count)
        with torch.no_grad():
            expected = network(*inputs.values())
            difference = (run(inputs) - expected).abs().max().item()
        assert difference <= tolerance * max(1.0, expected.abs().max().item())
        assert expected.std() > 1e-3


@pytest.mark.parametrize("name", SPECS)
def test_onnxruntime_gives_what_torch_gives(tmp_path: Path, name: str) -> None:
    """Breaks when other weights than the averaged ones are exported, or a batch of another size fails."""
    path = saved(tmp_path, name)
    export_onnx(path, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    spec = checkpoints.load(path).spec
    assert [given.name for given in session.get_inputs()] == list(blank_inputs(spec, 1))
    assert {given.shape[0] for given in session.get_inputs()} == {"batch"}
    assert [made.name for made in session.get_outputs()] == [output_name(spec)]

    def run(inputs: dict[str, Tensor]) -> Tensor:
        values = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(session.run(None, values)[0])

    check(path, run, (1, 2, 70), 1e-4)
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(told["atelier"]) == checkpoints.read_metadata(path)


@pytest.mark.parametrize("name", SPECS)
def test_a_loaded_program_gives_what_torch_gives(tmp_path: Path, name: str) -> None:
    """Breaks when the program holds one size of a batch, or lacks the spec."""
    path = saved(tmp_path, name)
    export_program(path, tmp_path)
    about = {"atelier.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=about)
    assert json.loads(about["atelier.json"]) == checkpoints.read_metadata(path)
    spec, module = checkpoints.load(path).spec, program.module()
    bounded = isinstance(spec, DiffusionSpec) and isinstance(spec.network, UnetSpec)
    check(path, lambda inputs: module(*inputs.values()), (1, 2, UNET_BATCH if bounded else 70), 1e-6)


def test_images_are_made_meanwhile(tmp_path: Path) -> None:
    """Breaks when tracing in one thread of a worker changes what the images of another one are made by."""
    path = saved(tmp_path, "ddpm")
    loaded = checkpoints.load(path)
    expected = generate(loaded.networks, loaded.spec, [1, 2])
    exporting = threading.Thread(target=export_onnx, args=(path, tmp_path))
    exporting.start()
    rounds = 0
    while exporting.is_alive() or not rounds:
        assert np.array_equal(generate(loaded.networks, loaded.spec, [1, 2]), expected)
        rounds += 1
    exporting.join()
    assert (tmp_path / "model.onnx").exists()


def test_nothing_is_drawn_from_torchs_generator(tmp_path: Path) -> None:
    path = saved(tmp_path, "dcgan")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    export_onnx(path, tmp_path)
    export_program(path, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
