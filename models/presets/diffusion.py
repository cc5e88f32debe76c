"""The diffusion presets, small enough to learn on two CPU cores."""

from typing import Any

from models.presets.preset import Preset
from models.spec.merge import merge

_DDPM: dict[str, Any] = {
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
    "loss": {"weighting": "uniform"},  # of the noise, as `cosine` has it where nothing is said
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
    "sampler": {"steps": 50, "eta": 0.0},
}

_EDM = merge(
    _DDPM,
    {
        "noise_schedule": {"kind": "edm"},
        "sampler": {"kind": "heun", "steps": 18},
    },
)

_FLOW_DIT = merge(
    _DDPM,
    {
        "network": {"kind": "dit", "patch_size": 4, "width": 128, "depth": 6, "heads": 4},
        "noise_schedule": {"kind": "flow"},
        # A transformer is trained without decay of its weights (Peebles & Xie 2023).
        "optimizer": {"weight_decay": 0.0, "betas": [0.9, 0.999]},
        "sampler": {"kind": "heun", "steps": 20},
    },
)

DIFFUSION_PRESETS = (
    Preset(
        "ddpm",
        "diffusion",
        "Denoising diffusion with a small UNet that learns on two CPU cores: predicts the noise, "
        "cosine noise schedule, DDIM in 50 steps.",
        "Ho et al. 2020, arXiv:2006.11239; schedule: Nichol & Dhariwal 2021, arXiv:2102.09672",
        _DDPM,
    ),
    Preset(
        "edm",
        "diffusion",
        "The same UNet with EDM's preconditioning and noise distribution, Heun's sampler in 18 steps.",
        "Karras et al. 2022, arXiv:2206.00364",
        _EDM,
    ),
    Preset(
        "flow-dit",
        "diffusion",
        "Flow matching with a small diffusion transformer, Heun's sampler in 20 steps.",
        "Lipman et al. 2023, arXiv:2210.02747; Peebles & Xie 2023, arXiv:2212.09748",
        _FLOW_DIT,
    ),
)
