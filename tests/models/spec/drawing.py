"""Specs drawn at random for property tests: each field left out or given, by itself allowed or not."""

from typing import Any

from hypothesis import strategies as st

from models.spec.augmentation import AugmentationKind
from models.spec.diffusion import NoiseScheduleKind, Prediction, Weighting
from models.spec.evaluation import ExtractorKind, ScoreKind
from models.spec.gan import DiscriminatorOutput, GanLoss, Penalty
from models.spec.layers import Activation, Init, Norm
from models.spec.optimizer import OptimizerKind, ScheduleKind
from models.spec.sampling import SamplerKind
from models.spec.training import MemoryFormat, Precision
from tests.models.spec.planning import DATASETS

Drawn = st.SearchStrategy[dict[str, Any]]


def choice(members: Any) -> st.SearchStrategy[str]:
    return st.sampled_from([str(member) for member in members])


def fields(**optional: st.SearchStrategy[Any]) -> Drawn:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=optional)


def number(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, exclude_min=True, exclude_max=True)


def lists(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=most)


INTERVAL = st.one_of(
    st.just({}),
    st.builds(lambda n: {"every_images": n}, st.integers(1, 10**10)),
    st.builds(lambda n: {"every_steps": n}, st.integers(1, 10**8)),
)
SCHEDULE = fields(
    kind=choice(ScheduleKind),
    warmup_steps=st.integers(0, 10**5),
    gamma=number(0, 1),
    step_size=st.integers(1, 99),
)
OPTIMIZER = fields(
    kind=choice(OptimizerKind),
    learning_rate=number(0, 1),
    betas=st.tuples(number(0, 1), number(0, 1)).map(list),
    momentum=number(0, 1),
    alpha=number(0, 1),
    eps=number(0, 1),
    weight_decay=number(0, 1),
    clip_grad_norm=st.none() | number(0, 10),
    clip_grad_value=st.none() | number(0, 10),
    schedule=SCHEDULE,
)
SAMPLER = fields(
    kind=choice(SamplerKind),
    steps=st.integers(1, 1200),
    eta=st.sampled_from([0.0, 0.5]),
    guidance_scale=st.sampled_from([1.0, 3.0]),
)
AUGMENTATION = st.fixed_dictionaries(
    {"kind": choice(AugmentationKind)}, optional={"probability": number(0, 1), "magnitude": number(0, 180)}
)
EVALUATION = st.builds(
    lambda interval, rest: {**interval, **rest},
    INTERVAL,
    fields(
        samples=st.sampled_from([10, 100, 1000, 5000]),
        scores=lists(choice(ScoreKind)),
        extractor=choice(ExtractorKind),
        best_by=choice(ScoreKind),
        seed=st.integers(0, 9),
    ),
)
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "dataset": choice(DATASETS),
    "seed": st.integers(0, 2**53 - 1),
    "data": fields(
        resolution=st.sampled_from([16, 32, 64]),
        channels=st.sampled_from([1, 3]),
        range=st.sampled_from([[-1, 1], [0, 1]]),
        augmentations=lists(AUGMENTATION),
        drop_suspects=st.booleans(),
        held_out=st.sampled_from([0.0, 0.1]),
    ),
    "budget": st.one_of(
        st.builds(lambda n: {"images": n}, st.integers(1, 10**10)),
        st.builds(lambda n: {"steps": n}, st.integers(1, 10**8)),
    ),
    "batch_size": st.sampled_from([1, 8, 32, 64, 96]),
    "accumulation": st.sampled_from([1, 1, 2, 5]),
    "optimizer": OPTIMIZER,
    "ema": st.none() | fields(half_life_images=st.integers(1, 10**6), ramp=number(0, 1)),
    "conditional": st.none()
    | fields(classes=st.sampled_from([2, 10]), label_dropout=st.sampled_from([0.0, 0.2])),
    "checkpoints": INTERVAL,
    "samples": INTERVAL,
    "log_every_steps": st.integers(1, 10**6),
    "precision": choice(Precision),
    "memory_format": choice(MemoryFormat),
    "compile": st.booleans(),
    "threads": st.integers(1, 4),
    "metadata": st.dictionaries(st.sampled_from(["team", "run"]), st.just("x")),
    "warnings": st.just(["posted"]),
}
NETWORK: dict[str, st.SearchStrategy[Any]] = {
    "norm": choice(Norm),
    "norm_groups": st.sampled_from([1, 4, 8]),
    "activation": choice(Activation),
    "spectral_norm": st.booleans(),
    "attention_resolutions": lists(st.sampled_from([4, 8, 16]), 2),
    "dropout": st.sampled_from([0.0, 0.3]),
    "init": choice(Init),
}
GANS: dict[str, st.SearchStrategy[Any]] = {
    **SHARED,
    "generator": fields(nz=st.integers(1, 200), ngf=st.sampled_from([4, 32]), **NETWORK),
    "discriminator": fields(
        ndf=st.sampled_from([4, 32]),
        output=choice(DiscriminatorOutput),
        weight_clip=st.none() | number(0, 1),
        **NETWORK,
    ),
    "loss": fields(kind=choice(GanLoss)),
    "discriminator_steps": st.integers(1, 5),
    "penalties": lists(
        st.fixed_dictionaries(
            {"kind": choice(Penalty)},
            optional={
                "weight": number(0, 100),
                "final_weight": number(0, 1),
                "every": st.sampled_from([1, 16]),
            },
        )
    ),
    "discriminator_augmentation": st.none()
    | fields(
        kind=st.sampled_from(["diffaugment", "ada"]),
        policy=st.lists(choice(AugmentationKind), min_size=1, max_size=2),
        target=number(0, 1),
        adjustment_images=st.integers(1, 10**6),
    ),
    "optimizers": fields(generator=st.none() | OPTIMIZER, discriminator=st.none() | OPTIMIZER),
    "lazy_rescaling": number(0, 1),
    "evaluation": st.none() | EVALUATION,
}
UNET = fields(
    kind=st.just("unet"),
    channels=st.sampled_from([8, 32]),
    multipliers=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    attention_resolutions=lists(st.sampled_from([4, 8, 16]), 2),
    norm_groups=st.sampled_from([4, 8, 12]),
)
DIT = st.fixed_dictionaries(
    {"kind": st.just("dit")},
    optional={
        "patch_size": st.sampled_from([1, 2, 4, 16]),
        "width": st.sampled_from([64, 100]),
        "heads": st.sampled_from([4, 8]),
    },
)
DIFFUSIONS: dict[str, st.SearchStrategy[Any]] = {
    **SHARED,
    "network": UNET | DIT,
    "loss": fields(prediction=choice(Prediction), weighting=choice(Weighting), min_snr_gamma=number(0, 100)),
    "noise_schedule": fields(
        kind=choice(NoiseScheduleKind),
        timesteps=st.sampled_from([2, 15, 1000]),
        zero_terminal_snr=st.booleans(),
        sigma_min=number(0, 1),
        sigma_max=number(1, 100),
        rho=number(1, 10),
        sigma_data=number(0, 10),
        time_mean=number(-2, 2),
        time_std=number(0, 2),
    ),
    "sampler": SAMPLER,
    "evaluation": st.none()
    | st.builds(lambda evaluation, sampler: {**evaluation, **sampler}, EVALUATION, fields(sampler=SAMPLER)),
}


def some_of(family: dict[str, st.SearchStrategy[Any]], most: int) -> Drawn:
    """An object with at most `most` of a family's fields, so that many of them are allowed together."""
    return st.lists(st.sampled_from(sorted(family)), max_size=most, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: family[name] for name in names})
    )
