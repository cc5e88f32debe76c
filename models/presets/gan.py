"""The GAN presets, from the classical recipe to those that stay stable."""

from typing import Any

from models.presets.preset import Preset
from models.spec.merge import merge

_DCGAN_VANILLA: dict[str, Any] = {
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

# A penalty is a gradient of each image alone, which BatchNorm in D would couple to the others of its batch.
_SCORED = merge(_DCGAN_VANILLA, {"ema": {"ramp": 0.05}, "evaluation": {"samples": 1000}})
_UNNORMALISED = merge(_SCORED, {"discriminator": {"output": "logits", "norm": "none"}})

# Both penalties are far heavier than StyleGAN2's heuristic, 0.0032 at 32 px: with that, longer runs lost
# whole classes (Fashion-MNIST, 150,000 images: FID 3.0, against 1.0 with a weight of 1).
_DCGAN_R1 = merge(
    _UNNORMALISED,
    {
        "discriminator": {"init": "orthogonal"},  # N(0, 0.02) without BatchNorm starts with no signal
        "penalties": [{"kind": "r1", "weight": 1.0, "every": 16}],
        "optimizer": {"learning_rate": 1e-3, "betas": [0.0, 0.99]},
    },
)

_SNGAN_HINGE = merge(
    _UNNORMALISED,
    {
        "discriminator": {"spectral_norm": True},
        "loss": {"kind": "hinge"},
        "discriminator_steps": 5,
        "optimizer": {"learning_rate": 2e-4, "betas": [0.0, 0.9], "schedule": {"kind": "linear"}},
    },
)

_WGAN = merge(
    _SCORED,
    {
        "discriminator": {"output": "logits", "weight_clip": 0.01},
        "loss": {"kind": "wasserstein"},
        "discriminator_steps": 5,
        "optimizer": {"kind": "rmsprop", "learning_rate": 5e-5, "schedule": {"kind": "constant"}},
    },
)

_WGAN_GP = merge(
    _UNNORMALISED,
    {
        "discriminator": {"init": "orthogonal"},  # as dcgan-r1
        "penalties": [{"kind": "gradient_penalty", "weight": 10.0}],
        "loss": {"kind": "wasserstein"},
        "discriminator_steps": 5,
        "optimizer": {"learning_rate": 1e-4, "betas": [0.0, 0.9]},
    },
)

_RPGAN_R1R2 = merge(
    _UNNORMALISED,
    {
        "loss": {"kind": "relativistic"},
        "penalties": [
            {"kind": "r1", "weight": 1.0, "final_weight": 0.1},
            {"kind": "r2", "weight": 1.0, "final_weight": 0.1},
        ],
        "optimizer": {"learning_rate": 1e-3, "betas": [0.0, 0.99], "schedule": {"kind": "cosine"}},
    },
)

_DCGAN_DIFFAUGMENT = merge(
    _DCGAN,
    {
        "discriminator_augmentation": {
            "kind": "diffaugment",
            "policy": ["colour", "translation", "cutout"],
        }
    },
)

GAN_PRESETS = (
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
        "dcgan-r1",
        "gan",
        "The non-saturating loss with a lazy R1 penalty every 16 steps, no BatchNorm in D, a high rate.",
        "R1: Mescheder et al. 2018, arXiv:1801.04406; lazy: Karras et al. 2020, arXiv:1912.04958",
        _DCGAN_R1,
    ),
    Preset(
        "sngan-hinge",
        "gan",
        "Hinge loss, spectral norm in D, five updates of D for one of G, linear decay.",
        "Miyato et al. 2018, arXiv:1802.05957",
        _SNGAN_HINGE,
    ),
    Preset(
        "wgan",
        "gan",
        "Wasserstein loss with weights clipped to ± 0.01, RMSprop, five updates of the critic for one of G.",
        "Arjovsky et al. 2017, arXiv:1701.07875",
        _WGAN,
    ),
    Preset(
        "wgan-gp",
        "gan",
        "Wasserstein loss with a gradient penalty of 10, five updates of the critic for one of G.",
        "Gulrajani et al. 2017, arXiv:1704.00028",
        _WGAN_GP,
    ),
    Preset(
        "rpgan-r1r2",
        "gan",
        "The relativistic loss with R1 and R2 at every step, cosine decay: covers the most modes.",
        "Huang et al. 2024 (R3GAN), arXiv:2501.05441",
        _RPGAN_R1R2,
    ),
    Preset(
        "dcgan-diffaugment",
        "gan",
        "`dcgan` with differentiable colour, translation and cutout of all that D sees: for few images.",
        "Zhao et al. 2020, arXiv:2006.10738",
        _DCGAN_DIFFAUGMENT,
    ),
)
