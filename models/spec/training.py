"""The part of a job spec that every family shares: data, optimizer, budget, intervals, seed."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from models.spec.conditional import ConditionalSpec
from models.spec.data import DataSpec
from models.spec.evaluation import EvaluationSpec
from models.spec.fields import Images, Model, Seed, Steps, Text
from models.spec.interval import Interval
from models.spec.optimizer import OptimizerSpec


class Precision(StrEnum):
    """`fp32`; `bf16` and `fp16` (autocast; penalties stay in fp32, and `fp16` scales its losses).

    `auto`: bf16 where the device is fast at it, else fp32. Fast are CUDA devices of capability 8.0 and more;
    a processor with AVX512-BF16 or AMX is timed.
    """

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class MemoryFormat(StrEnum):
    """Layout of images and weights in memory.

    `contiguous`: channel by channel. `channels_last`: pixel by pixel. `auto` times a few steps of each and
    keeps the faster.
    """

    AUTO = "auto"
    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels_last"


class Budget(Model):
    """How long to train: `images` real images shown, or `steps` updates. Exactly one."""

    images: Images | None = Field(None, description="Real images shown to the trained network.")
    steps: Steps | None = Field(None, description="Updates of the trained network (D of a GAN).")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Budget":
        if (self.images is None) == (self.steps is None):
            raise ValueError("give exactly one of images and steps")
        return self


class CheckpointsSpec(Interval):
    """When the weights are stored, and which of them stay; the last step always is stored.

    Left out: with each evaluation, where its interval is given, else 10 times a run.
    """

    keep_last: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="So many of the newest stay, at least 2: should one be damaged, the one before is "
        "gone on from. Null: all stay.",
    )
    keep_best: Annotated[int, Field(ge=1)] = Field(
        1, description="So many of the best by `evaluation.best_by` stay as well. Pinned ones always do."
    )


class SamplesSpec(Interval):
    """Grids of images made while training, always from the same noise.

    Left out: 20 times a run, for diffusion at most every 250 steps.
    """

    count: Annotated[int, Field(ge=1, le=256)] = Field(64, description="Images in a grid.")


class EmaSpec(Model):
    """An exponential moving average of the weights, which then makes the samples; buffers are copied."""

    half_life_images: Images | None = Field(
        None,
        description="Images after which a weight counts half. Left out: 5 % of the run, at most "
        "20,000 (GAN) or 900,000 (diffusion: about decay 0.9999 at batch 128).",
    )
    ramp: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="Early on the half-life is at most this fraction of the images shown so far."
    )


class TrainingSpec(Model):
    """What the specs of both families share."""

    preset: Text | None = Field(None, max_length=64, description="Preset that this spec started from.")
    name: Text | None = Field(None, max_length=100, description="A name for people.")
    dataset: Text = Field(
        "digits", max_length=100, description="`digits`, `fashion-mnist` or a dataset's id."
    )
    seed: Seed | None = Field(
        None, description="Fixes every random choice. Left out: drawn, and written here."
    )
    init_from: Text | None = Field(
        None,
        max_length=1000,
        description="Checkpoint whose weights the training starts from, of networks like its own; without a "
        "service, its file. Null starts from random ones.",
    )
    data: DataSpec = Field(default_factory=DataSpec, description="How images are shown to the networks.")
    budget: Budget = Field(Budget(images=100_000), description="How long to train.")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = Field(
        64, description="Images a step, over all parts."
    )
    accumulation: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Equal parts in which a batch is computed to save memory; divides `batch_size`."
    )
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec, description="Holds for all networks.")
    ema: EmaSpec | None = Field(None, description="Averaged weights; null trains without.")
    conditional: ConditionalSpec | None = Field(
        None, description="Learn the dataset's classes; null learns no labels."
    )
    evaluation: EvaluationSpec | None = Field(None, description="Measuring while training; null does not.")
    checkpoints: CheckpointsSpec = Field(
        default_factory=CheckpointsSpec, description="When weights are stored."
    )
    samples: SamplesSpec = Field(default_factory=SamplesSpec, description="When sample grids are made.")
    log_every_steps: Steps | None = Field(
        None, description="Steps that one point of a metric averages. Left out: about 1,000 points a run."
    )
    precision: Precision = Field(Precision.AUTO, description="Arithmetic of the networks.")
    memory_format: MemoryFormat = Field(MemoryFormat.AUTO, description="Layout of images in memory.")
    compile: bool = Field(False, description="Compile the networks by torch.compile before the first step.")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="CPU threads of a step. Left out: the first worker's, and written here."
    )
    metadata: dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16, description="Your own labels; jobs can be listed by them."
    )
    warnings: tuple[Text, ...] = Field(
        (),
        description="What is allowed and probably not meant; written by the service, ignored in a request.",
    )


class OptimizersSpec(Model):
    """Optimizers of single networks, where they differ from `optimizer`."""

    generator: OptimizerSpec | None = Field(None, description="The generator's optimizer.")
    discriminator: OptimizerSpec | None = Field(None, description="The discriminator's optimizer.")
