"""A checkpoint comes back exactly, and what is none is refused with its reason."""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from models import checkpoints
from models.checkpoints import CheckpointError
from models.networks import build_networks
from models.networks.spectral import add_spectral_norm, iterate_spectral_norms
from models.presets import plan
from models.spec import BUILTIN_DATASETS, JobSpec

GAN = {"preset": "dcgan", "generator": {"ngf": 4}, "discriminator": {"ndf": 4}}
DIFFUSION = {"preset": "ddpm", "network": {"channels": 8, "attention_resolutions": [4]}}
DIT = {
    "family": "diffusion",
    "network": {"kind": "dit", "width": 16, "depth": 2, "heads": 2},
    "conditional": {},
    "noise_schedule": {"kind": "edm"},
}


def _made(raw: Mapping[str, Any]) -> tuple[JobSpec, dict[str, nn.Module], dict[str, nn.Module]]:
    """A spec, its networks with buffers that have moved, and an average that differs from them."""
    spec = plan({**raw, "seed": 1}, BUILTIN_DATASETS.get).spec
    torch.manual_seed(0)
    networks = build_networks(spec)
    name = "generator" if "generator" in networks else "network"
    if name == "generator":
        networks["discriminator"](networks["generator"](torch.randn(16, 100)))
    averaged = copy.deepcopy(networks[name])
    for parameter in averaged.parameters():
        nn.init.normal_(parameter, std=0.05)
    return spec, networks, {name: averaged}


def _saved(folder: Path, raw: Mapping[str, Any]) -> Path:
    spec, networks, averaged = _made(raw)
    return checkpoints.save(folder, spec=spec, step=3, images=192, networks=networks, averaged=averaged).path


@pytest.mark.parametrize("raw", [GAN, DIFFUSION, DIT], ids=["gan", "diffusion", "dit"])
@pytest.mark.parametrize("with_average", [True, False])
def test_what_is_saved_comes_back_exactly(tmp_path: Path, raw: Mapping[str, Any], with_average: bool) -> None:
    """Buffers included: an average without its BatchNorm statistics samples noise."""
    spec, networks, averaged = _made(raw)
    saved = checkpoints.save(
        tmp_path,
        spec=spec,
        step=3,
        images=192,
        networks=networks,
        averaged=averaged if with_average else None,
    )
    random = torch.get_rng_state()
    loaded = checkpoints.load(saved.path)
    assert torch.equal(torch.get_rng_state(), random)
    assert (loaded.spec, loaded.step, loaded.images) == (spec, 3, 192)
    assert loaded.networks.keys() == averaged.keys()
    for name, network in loaded.networks.items():
        expected = (averaged if with_average else networks)[name].state_dict()
        assert not network.training
        assert network.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in network.state_dict().items())
        assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("conditional", [None, {}])
@pytest.mark.parametrize("with_average", [True, False])
def test_under_spectral_norm_the_loaded_generator_is_that_in_memory(
    tmp_path: Path, norm: str, conditional: Any, with_average: bool
) -> None:
    """What is stored is the normalised weight, so that whoever loads it needs no power iteration."""
    raw = {**GAN, "conditional": conditional, "seed": 1}
    raw["generator"] = {"ngf": 4, "norm": norm, "spectral_norm": True, "attention_resolutions": [8]}
    spec = plan(raw, BUILTIN_DATASETS.get).spec
    torch.manual_seed(0)
    networks = {name: add_spectral_norm(network) for name, network in build_networks(spec).items()}
    labels = None if conditional is None else torch.tensor([0, 4, 9])
    latents = torch.randn(3, 100)
    networks["generator"](latents, labels)
    averaged = copy.deepcopy(networks["generator"])
    for parameter in averaged.parameters():
        nn.init.normal_(parameter, std=0.05)
    for network in networks.values():
        iterate_spectral_norms(network)
    saved = checkpoints.save(
        tmp_path,
        spec=spec,
        step=3,
        images=192,
        networks=networks,
        averaged={"generator": averaged} if with_average else None,
    )
    expected = (averaged if with_average else networks["generator"]).eval()(latents, labels)
    assert torch.equal(checkpoints.load(saved.path).networks["generator"](latents, labels), expected)
    assert not any("parametrizations" in key for key in safetensors.torch.load_file(saved.path))


def test_the_file_holds_every_network_under_the_public_names(tmp_path: Path) -> None:
    spec, networks, averaged = _made(GAN)
    saved = checkpoints.save(tmp_path, spec=spec, step=3, images=192, networks=networks, averaged=averaged)
    tensors = safetensors.torch.load_file(saved.path)
    expected = {f"{name}.{key}" for name, network in networks.items() for key in network.state_dict()}
    assert tensors.keys() == expected | {f"ema.generator.{key}" for key in averaged["generator"].state_dict()}
    assert {
        "generator.main.0.weight",
        "discriminator.main.0.weight",
        "ema.generator.main.1.running_mean",
    } <= tensors.keys()
    assert torch.equal(tensors["generator.main.0.weight"], networks["generator"].main[0].weight)
    content = saved.path.read_bytes()
    assert (saved.sha256, saved.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert list(tmp_path.iterdir()) == [saved.path]


def test_channels_last_weights_are_stored_as_any_others(tmp_path: Path) -> None:
    spec, networks, _ = _made(GAN)
    plain = checkpoints.save(tmp_path / "a", spec=spec, step=1, images=8, networks=networks, averaged=None)
    moved = {name: network.to(memory_format=torch.channels_last) for name, network in networks.items()}
    strided = checkpoints.save(tmp_path / "b", spec=spec, step=1, images=8, networks=moved, averaged=None)
    assert plain.sha256 == strided.sha256


def test_the_metadata_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = _saved(tmp_path, GAN)
    about = checkpoints.read_metadata(path)
    assert (about["version"], about["step"], about["images"]) == (1, 3, 192)
    assert about["spec"]["generator"]["ngf"] == 4


def test_saving_again_replaces_the_whole_file(tmp_path: Path) -> None:
    path = _saved(tmp_path, GAN)
    spec, networks, _ = _made(GAN)
    checkpoints.save(tmp_path, spec=spec, step=4, images=256, networks=networks, averaged=None)
    assert checkpoints.read_metadata(path)["step"] == 4


def _rewritten(path: Path, header: Any) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _padded(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"smuggled")


def _huge_header(path: Path) -> None:
    with path.open("wb") as file:
        file.write((50 * 2**20).to_bytes(8, "little"))
        file.truncate(60 * 2**20)


def _absurd_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def _nested_header(path: Path) -> None:
    _rewritten(path, b"[" * 100_000 + b"]" * 100_000)


def _list_header(path: Path) -> None:
    _rewritten(path, [1, 2])


def _pickle(path: Path) -> None:
    torch.save({"generator.main.0.weight": torch.ones(1)}, path)


def _foreign(path: Path) -> None:
    safetensors.torch.save_file({"x": torch.ones(1)}, path, {"format": "pt"})


def _tagged(path: Path, about: Any, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
    tensors = safetensors.torch.load_file(path) if tensors is None else dict(tensors)
    safetensors.torch.save_file(dict(tensors), path, {"atelier": json.dumps(about)})


def _newer(path: Path) -> None:
    _tagged(path, {**checkpoints.read_metadata(path), "version": 2})


def _no_step(path: Path) -> None:
    _tagged(path, {**checkpoints.read_metadata(path), "step": "3"})


def _bad_spec(path: Path) -> None:
    about = checkpoints.read_metadata(path)
    _tagged(path, {**about, "spec": {**about["spec"], "batch_size": -1}})


def _open_spec(path: Path) -> None:
    about = checkpoints.read_metadata(path)
    _tagged(path, {**about, "spec": {**about["spec"], "data": {"resolution": None}}})


def _other_width(path: Path) -> None:
    about = checkpoints.read_metadata(path)
    _tagged(path, {**about, "spec": {**about["spec"], "generator": {**about["spec"]["generator"], "ngf": 8}}})


def _lacking_a_tensor(path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    del tensors["ema.generator.main.1.running_mean"]
    _tagged(path, checkpoints.read_metadata(path), tensors)


def _with_a_strange_tensor(path: Path) -> None:
    tensors = safetensors.torch.load_file(path) | {"ema.generator.extra": torch.ones(1)}
    _tagged(path, checkpoints.read_metadata(path), tensors)


def _half_precision(path: Path) -> None:
    tensors = {key: tensor.half() for key, tensor in safetensors.torch.load_file(path).items()}
    _tagged(path, checkpoints.read_metadata(path), tensors)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncated, "truncated"),
        (_cut_in_the_header, "truncated"),
        (_empty, "truncated"),
        (_padded, "damaged"),
        (_huge_header, "header of 52428800 bytes"),
        (_absurd_header, "truncated"),
        (_nested_header, "not a safetensors file"),
        (_list_header, "not a safetensors file"),
        (_pickle, "truncated|not a safetensors file"),
        (_foreign, "Atelier did not write"),
        (_newer, "version 1"),
        (_no_step, "lacks a spec, a step"),
        (_bad_spec, "spec is not valid.*batch_size"),
        (_open_spec, "no network can be built"),
        (_other_width, "main.0.weight as"),
        (_lacking_a_tensor, "main.1.running_mean.*has nothing"),
        (_with_a_strange_tensor, "extra as nothing"),
        (_half_precision, "F16"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    """A bare struct.error or a half-filled network would reach a client as a 500 or as pictures of noise."""
    path = _saved(tmp_path, GAN)
    damage(path)
    with pytest.raises(CheckpointError, match=reason) as error:
        checkpoints.load(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoints.read_metadata(tmp_path / "none.safetensors")
