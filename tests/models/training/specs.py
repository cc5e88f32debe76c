"""Specs small enough to train in a test."""

from pathlib import Path
from typing import Any

from models.presets import plan
from models.spec import BUILTIN_DATASETS, JobSpec

SMALL: dict[str, dict[str, Any]] = {
    "dcgan": {"generator": {"ngf": 4, "nz": 8}, "discriminator": {"ndf": 4}},
    "dcgan-vanilla": {"generator": {"ngf": 4, "nz": 8}, "discriminator": {"ndf": 4}},
    "ddpm": {
        "network": {"channels": 8, "multipliers": [1, 2], "norm_groups": 4},
        "sampler": {"kind": "ddim", "steps": 2},
    },
}


def small(preset: str, **overrides: Any) -> JobSpec:
    """A resolved spec of a tiny model for a few steps."""
    raw: dict[str, Any] = {
        "preset": preset,
        "seed": 5,
        "budget": {"steps": 6},
        "batch_size": 16,
        "samples": {"count": 4},
        "memory_format": "contiguous",
        "precision": "fp32",
        "threads": 1,
        **SMALL[preset],
    }
    return plan({**raw, **overrides}, BUILTIN_DATASETS.get).spec


def folders(path: Path) -> set[str]:
    """Every file below a folder, by relative path."""
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
