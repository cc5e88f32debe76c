"""A spec of each kind of network, small."""

from typing import Any

from models.presets import plan
from models.spec import BUILTIN_DATASETS, JobSpec

SPECS: dict[str, dict[str, Any]] = {
    "dcgan": {"preset": "dcgan", "generator": {"ngf": 8}, "discriminator": {"ndf": 8}},
    "dcgan-vanilla, 64 px RGB": {"preset": "dcgan-vanilla", "data": {"resolution": 64, "channels": 3}},
    "ddpm": {"preset": "ddpm"},
    "ddpm with attention": {"preset": "ddpm", "network": {"attention_resolutions": [8, 4], "channels": 16}},
    "a GAN of everything else": {
        "family": "gan",
        "generator": {
            "ngf": 8,
            "norm": "none",
            "activation": "silu",
            "dropout": 0.1,
            "attention_resolutions": [8],
            "init": "orthogonal",
        },
        "discriminator": {"ndf": 8, "norm": "instance", "dropout": 0.1, "attention_resolutions": [4, 8]},
        "conditional": {},
        "penalties": [{"kind": "r1"}],
    },
    "a conditional UNet": {"preset": "ddpm", "network": {"dropout": 0.1}, "conditional": {}},
    "a conditional transformer": {
        "family": "diffusion",
        "network": {"kind": "dit", "width": 32, "depth": 2, "dropout": 0.1},
        "conditional": {},
    },
}


def spec_of(name: str) -> JobSpec:
    return plan(SPECS[name], BUILTIN_DATASETS.get).spec
