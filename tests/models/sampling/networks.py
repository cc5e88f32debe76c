"""Small untrained networks to sample from."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.networks import build_networks
from models.presets import plan
from models.spec import BUILTIN_DATASETS, JobSpec


def spec_of(raw: Mapping[str, Any]) -> JobSpec:
    return plan(raw, BUILTIN_DATASETS.get).spec


def gan(resolution: int = 32, channels: int = 3) -> tuple[JobSpec, dict[str, nn.Module]]:
    data = {"resolution": resolution, "channels": channels}
    spec = spec_of({"preset": "dcgan", "data": data, "generator": {"ngf": 16, "init": "kaiming"}})
    torch.manual_seed(0)
    networks = build_networks(spec)
    networks["generator"](torch.randn(64, 100))  # BatchNorm's statistics are a batch's, as after training
    return spec, networks


def diffusion(schedule: str = "cosine", **fields: Any) -> tuple[JobSpec, dict[str, nn.Module]]:
    network = {"channels": 8, "attention_resolutions": [4], "dropout": 0.3}
    raw = {"family": "diffusion", "network": network, "noise_schedule": {"kind": schedule}, **fields}
    spec = spec_of(raw)
    torch.manual_seed(0)
    return spec, build_networks(spec)
