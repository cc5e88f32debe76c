"""The card says what a model is, and its Python runs as it is written there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models import checkpoints
from models.checkpoints import export_diffusers
from models.exports.card import Origin, card
from models.exports.programs import export_onnx, export_program
from models.networks import build_networks
from models.presets import PRESETS, plan
from models.spec import BUILTIN_DATASETS, JobSpec
from models.spec.exporting import ExportFormat, foreign_to_diffusers

ORIGIN = Origin("ckpt_1", 1500, 96_000, "digits", "ab" * 32, {"fid": 12.3456, "kid": 0.01})
TINY_UNET = {"channels": 8, "multipliers": [1, 2], "norm_groups": 4}
BLOCK = re.compile(r"### (\w+)\n.*?```python\n(.*?)```", re.DOTALL)


def spec_of(raw: Mapping[str, Any]) -> JobSpec:
    return plan({**raw, "seed": 1}, BUILTIN_DATASETS.get).spec


@pytest.mark.parametrize(
    "raw",
    [
        {"preset": "dcgan", "conditional": {}, "generator": {"ngf": 8}},
        {"preset": "ddpm", "network": TINY_UNET},
        {"preset": "flow-dit", "conditional": {}, "network": {"width": 32, "depth": 2}},
    ],
    ids=str,
)
def test_its_python_runs(tmp_path: Path, raw: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when somebody who copies a line gets an error, or a format is not told of."""
    spec = spec_of(raw)
    torch.manual_seed(0)
    path = checkpoints.save(
        tmp_path, spec=spec, step=1, images=8, networks=build_networks(spec), averaged=None
    ).path
    export_onnx(path, tmp_path)
    export_program(path, tmp_path)
    known = foreign_to_diffusers(spec) is None
    if known:
        export_diffusers(path, tmp_path)
    blocks = dict(BLOCK.findall(card(spec, ORIGIN, ExportFormat.ONNX)))
    assert set(blocks) == {"safetensors", "onnx", "torch_export", *(["diffusers"] if known else [])}
    monkeypatch.chdir(tmp_path)
    made: dict[str, dict[str, Any]] = {}
    for name, code in blocks.items():
        made[name] = {}
        exec(compile(code, name, "exec"), made[name])
    output = "images" if spec.family == "gan" else "prediction"
    theirs = torch.from_numpy(made["onnx"][output])
    assert torch.allclose(theirs, made["torch_export"][output], atol=1e-4)
    assert set(made["safetensors"]["network"]) == set(
        checkpoints.load(path).networks.popitem()[1].state_dict()
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_it_says_what_the_model_is(preset: str) -> None:
    """Breaks when Hugging Face cannot read the front matter, or spec, scores or dataset are missing."""
    text = card(spec_of({"preset": preset}), ORIGIN, ExportFormat.CARD)
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["dataset_name"], fields["dataset_content_hash"]) == ("digits", "ab" * 32)
    assert {"atelier", PRESETS[preset].family} <= set(fields["tags"])
    for part in ("1,500 steps", "| `fid` | 12.35 |", "](samples.png)", '"family"', f"`{'ab' * 32}`"):
        assert part in body


def test_a_datasets_name_is_only_a_name() -> None:
    """Breaks when the name that somebody typed changes the front matter or shows a foreign picture."""
    name = 'a\n---\nlicense: "mit"\x7f ![x](http://evil) <b>'
    origin = Origin("ckpt_1", 1, 8, name, None, {})
    text = card(spec_of({"preset": "dcgan"}), origin, ExportFormat.CARD)
    fields = yaml.safe_load(text.split("---\n", 2)[1])
    assert fields["dataset_name"] == 'a --- license: "mit" ![x](http://evil) <b>'
    assert "license" not in fields
    assert "![x]" not in text.split("\n---\n", 1)[1]
    assert "It has not been measured" in text
