"""Named, complete specs to start from, each with its source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.spec import DatasetFacts, FieldError, Plan, SpecError, resolve
from models.spec.merge import merge


@dataclass(frozen=True)
class Preset:
    """A spec with a name; `spec` leaves out only what is derived from the dataset and the budget."""

    name: str
    family: str
    summary: str
    source: str
    spec: dict[str, Any]


_DCGAN_VANILLA = {
    "family": "gan",
    "dataset": "digits",
    "data": {},
    "budget": {"images": 300_000},
    "batch_size": 64,
    "generator": {"kind": "dcgan", "nz": 100, "init": "normal"},
    "discriminator": {"kind": "dcgan", "output": "sigmoid", "init": "normal"},
    "loss": {"kind": "non_saturating"},
    "optimizer": {
        "kind": "adam",
        "learning_rate": 2e-4,
        "betas": [0.5, 0.999],
        "schedule": {"kind": "constant"},
    },
}

_DCGAN = merge(
    _DCGAN_VANILLA,
    {
        "discriminator": {"output": "logits"},
        # The rate falls to 0, so that the last weights are not the noise of the last steps; twice the
        # classical peak makes its mean the classical rate.
        "optimizer": {"learning_rate": 4e-4, "schedule": {"kind": "cosine"}, "clip_grad_norm": 1.0},
        "ema": {"ramp": 0.05},
        "evaluation": {"samples": 1000},
    },
)

_DDPM = {
    "family": "diffusion",
    "dataset": "digits",
    "data": {},
    "budget": {"images": 300_000},
    "batch_size": 64,
    "network": {
        "kind": "unet",
        "channels": 32,
        "multipliers": [1, 2, 2],
        "layers_per_block": 1,
        "norm_groups": 8,
        "dropout": 0.0,
    },
    "loss": {"prediction": "epsilon"},
    "noise_schedule": {"kind": "cosine", "timesteps": 1000},
    "optimizer": {
        "kind": "adamw",
        "learning_rate": 1e-3,
        "betas": [0.95, 0.999],
        "weight_decay": 1e-6,
        "schedule": {"kind": "cosine"},
        "clip_grad_norm": 1.0,
    },
    "ema": {"ramp": 0.05},
    "evaluation": {"samples": 1000},
    "sampler": {"kind": "ddim", "steps": 50, "eta": 0.0},
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "dcgan",
            "gan",
            "DCGAN with the tricks that keep it stable: logits, gradient clipping, averaged weights, "
            "cosine decay after a warm-up.",
            "Radford et al. 2016, arXiv:1511.06434; EMA: Yazici et al. 2019, arXiv:1806.04498",
            _DCGAN,
        ),
        Preset(
            "dcgan-vanilla",
            "gan",
            "The classical recipe and nothing else: sigmoid, binary cross-entropy, Adam at a constant rate.",
            "Radford et al. 2016, arXiv:1511.06434, as in pytorch/examples/dcgan",
            _DCGAN_VANILLA,
        ),
        Preset(
            "ddpm",
            "diffusion",
            "Denoising diffusion with a small UNet that learns on two CPU cores: predicts the noise, "
            "cosine noise schedule, DDIM in 50 steps.",
            "Ho et al. 2020, arXiv:2006.11239; schedule: Nichol & Dhariwal 2021, arXiv:2102.09672",
            _DDPM,
        ),
    )
}


def expand(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the preset that it names, if any, laid under it.

    Raises SpecError for what is no object, an unknown preset, or a family that is not the preset's.
    """
    if not isinstance(raw, Mapping):
        raise SpecError([FieldError("", "must be a JSON object")])
    name = raw.get("preset")
    if name is None:
        return merge({}, raw)
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        raise SpecError([FieldError("preset", f"must be one of {', '.join(PRESETS)}")])
    if raw.get("family") not in (None, preset.family):
        raise SpecError([FieldError("family", f"is {preset.family!r} in preset {name!r}; leave it out")])
    return merge(preset.spec, raw)


def plan(raw: Mapping[str, Any], find_dataset: Callable[[str], DatasetFacts | None]) -> Plan:
    """What a client posted, as a complete spec with warnings.

    `find_dataset` gives a dataset's facts, or None where there is none of that name.
    Raises SpecError naming every bad field with its JSON path.
    """
    return resolve(expand(raw), find_dataset)
