"""How a run's images are measured."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from models.spec.fields import Seed
from models.spec.interval import Interval
from models.spec.sampling import SamplerSpec


class ScoreKind(StrEnum):
    """A measure of made images against real ones.

    `fid`: Frechet distance of features (Heusel et al. 2017). `kid`: squared maximum mean discrepancy, cubic
    kernel (Binkowski et al. 2018). `inception_score`: Salimans et al. 2016. `precision_recall`: with k = 3
    neighbours (Kynkaanniemi et al. 2019). `class_histogram`: shares of the classes among the made images, and
    their KL divergence from the real ones. `mode_coverage`: classes that have at least a tenth of their real
    share.
    """

    FID = "fid"
    KID = "kid"
    INCEPTION_SCORE = "inception_score"
    PRECISION_RECALL = "precision_recall"
    CLASS_HISTOGRAM = "class_histogram"
    MODE_COVERAGE = "mode_coverage"


OF_CLASSES = (ScoreKind.CLASS_HISTOGRAM, ScoreKind.MODE_COVERAGE)
"""Scores that need an extractor that knows the dataset's classes."""

OF_PAIRS = (ScoreKind.FID, ScoreKind.KID, ScoreKind.PRECISION_RECALL)
"""Scores that need two real images at least; one half of a dataset is what images are scored against."""


class ExtractorKind(StrEnum):
    """What turns an image into features.

    `classifier`: a small network trained on the dataset's labels, on images that are never scored against.
    `inception`: Inception v3 as torch-fidelity has it, trained on ImageNet.
    """

    CLASSIFIER = "classifier"
    INCEPTION = "inception"


FEATURES: dict[ExtractorKind, int] = {ExtractorKind.CLASSIFIER: 64, ExtractorKind.INCEPTION: 2048}
"""Dimensions of the features."""

DEFAULT_SCORES = tuple(ScoreKind)


class EvaluationSpec(Interval):
    """Measure the networks while they train, and at the end.

    Interval left out: 10 times a run, for diffusion at most every 1,000 steps.
    """

    samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000,
        description="Images made for the scores; and held-out images that the networks are tried on, as far "
        "as so many were held out.",
    )
    scores: tuple[ScoreKind, ...] | None = Field(
        None,
        description="What is measured. Left out: all that the extractor allows; none for unlabelled sets.",
    )
    extractor: ExtractorKind | None = Field(
        None, description="Source of the features. Left out: `classifier` for a labelled set."
    )
    sampler: SamplerSpec | None = Field(
        None,
        description="Makes the images of a diffusion model that are scored. Left out: `sampler` with at most "
        "10 steps.",
    )
    seed: Seed = Field(0, description="Image i is made from this seed + i, at every evaluation.")
    best_by: ScoreKind | None = Field(
        None, description="The score that names the best checkpoint. Left out: `fid`, or else the first."
    )
