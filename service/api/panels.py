"""What a job's plot shows: a panel for each kind of metric, and plain words for each curve."""

from typing import Literal, NamedTuple

Scale = Literal["linear", "log", "auto"]


class Panel(NamedTuple):
    """A kind of metric: its title, the curves by what their keys begin with, and how they are drawn.

    `auto` is logarithmic for positive curves that span a wide range. `noisy` curves are smoothed. `low` and
    `high` are limits that the values have by themselves.
    """

    title: str
    prefixes: tuple[str, ...]
    scale: Scale = "linear"
    noisy: bool = True
    low: float | None = None
    high: float | None = None


# A title has some forty letters of room where the panels are many.
PANELS = (
    Panel(
        "Losses",
        ("loss/discriminator", "loss/generator", "loss/denoising", "evaluation/denoising_"),
        scale="auto",
    ),
    Panel("Penalties, with their weight", ("loss/",), scale="auto"),
    Panel("Discriminator's mean outputs", ("output/", "evaluation/output_")),
    Panel("Gradient norms before clipping", ("gradient_norm/",), scale="log"),
    Panel("Learning rates", ("learning_rate/",), noisy=False, low=0),
    Panel("FID (lower is better)", ("score/fid",), scale="auto", noisy=False),
    Panel("KID (lower is better)", ("score/kid",), scale="auto", noisy=False),
    Panel(
        "Precision, recall (higher is better)",
        ("score/precision", "score/recall"),
        noisy=False,
        low=0,
        high=1,
    ),
    Panel("Inception score (higher is better)", ("score/inception_score",), noisy=False),
    Panel("Classes covered (more is better)", ("score/modes",), noisy=False, low=0),
    Panel("Classes' divergence (lower is better)", ("score/class_kl",), noisy=False, low=0),
    Panel("EMA's distance from the weights", ("ema/distance",), noisy=False, low=0),
    Panel("Augmentation's probability", ("augmentation/probability",), noisy=False, low=0, high=1),
    Panel("Images per second", ("rate/images_per_second",), low=0),
    Panel("Most memory so far, in bytes", ("memory/peak_bytes",), noisy=False, low=0),
)
OTHERS = "Others"

WORDS = {
    "loss/discriminator": "discriminator",
    "loss/generator": "generator",
    "loss/denoising": "training",
    "loss/gradient_penalty": "gradient penalty",
    "loss/r1": "R1",
    "loss/r2": "R2",
    "evaluation/denoising_held_out": "held-out images",
    "evaluation/denoising_trained": "trained-on images",
    "output/real": "real images",
    "output/fake": "made images",
    "evaluation/output_held_out": "real, held out",
    "evaluation/output_trained": "real, trained on",
}

BLUE, RED, GREEN, PINK, ORANGE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#555555",
)
OTHER_COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
# One colour a network in every panel, told apart with colour-vision deficiencies too (Okabe & Ito 2008).
COLOURS = {
    "generator": BLUE,
    "discriminator": RED,
    "denoising": GREEN,
    "network": GREEN,
    "gradient_penalty": ORANGE,
    "r1": ORANGE,
    "r2": PINK,
    "real": GREEN,
    "fake": PINK,
    "output_held_out": ORANGE,
    "output_trained": SKY,
    "denoising_held_out": ORANGE,
    "denoising_trained": SKY,
    "precision": BLUE,
    "recall": RED,
    "images_per_second": GREY,
    "peak_bytes": GREY,
}


def words(key: str) -> str:
    """What a legend calls the curve."""
    return WORDS.get(key, key.partition("/")[2].replace("_", " ") or key)


def colour(key: str, index: int) -> str:
    """The colour of the curve's network or kind; of the index-th curve of a panel where it has none."""
    return COLOURS.get(key.rpartition("/")[2], OTHER_COLOURS[index % len(OTHER_COLOURS)])


def chosen(keys: list[str]) -> list[tuple[Panel, list[str]]]:
    """The panels that have curves, each with the keys of its own; what none is for comes in a last one."""
    left, panels = sorted(keys), []
    for panel in PANELS:
        own = [key for prefix in panel.prefixes for key in left if key.startswith(prefix)]
        if own:
            panels.append((panel, own))
            left = [key for key in left if key not in own]
    return [*panels, (Panel(OTHERS, ("",), scale="auto"), left)] if left else panels
