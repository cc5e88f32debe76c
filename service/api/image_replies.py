"""What the service answers about checkpoints and the images made from them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.spec import SamplerSpec
from service.api.image_options import Animation, Grid, Interpolation
from service.api.replies import CHECKPOINT, IMAGES, JOB, MOMENT, SHA256, ErrorReply, Urls, example
from service.records.status import RequestStatus
from service.records.tables import ImageBatch

DETAILS = (
    "What has to be the same for two scores to be comparable: `samples`, `reference`, `extractor`, "
    "`extractor_sha256`, `ema`, `seed`, `sampler`; and the `class_histogram` where classes are known."
)
SCORE_DETAILS = {
    "samples": 1000,
    "reference": {"images": 899, "content_hash": SHA256},
    "extractor": "classifier",
    "extractor_sha256": SHA256,
    "ema": True,
    "seed": 0,
    "sampler": None,
}


class CheckpointReply(BaseModel):
    """Stored networks, from which images are made."""

    model_config = example(
        id=CHECKPOINT,
        object="checkpoint",
        job_id=JOB,
        step=4688,
        images=300000,
        scores={"fid": 12.3, "precision": 0.71, "recall": 0.42},
        score_details=SCORE_DETAILS,
        size_bytes=4999000,
        state_bytes=14999000,
        sha256=SHA256,
        best=True,
        last=True,
        pinned=False,
        interim=False,
        created_at=MOMENT,
        urls={"images": f"https://host/v1/checkpoints/{CHECKPOINT}/images"},
    )
    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job_id: str
    step: int
    images: int = Field(description="Real images shown to the trained network until then.")
    scores: dict[str, float | None] = Field(
        description="By name: `fid`, `kid`, `inception_score`, `precision`, `recall`, `class_kl`, "
        "`modes`. Null where the number was not finite; empty while nothing was measured."
    )
    score_details: dict[str, Any] | None = Field(description=DETAILS)
    size_bytes: int = Field(description="Of the weights, which is what a download gets.")
    state_bytes: int | None = Field(
        description="Of what its job needs beside them to go on; null where that is not kept any more."
    )
    sha256: str
    best: bool = Field(
        description="Whether it is its job's best by `evaluation.best_by`; without scores the last is."
    )
    last: bool
    pinned: bool = Field(description="Whether it is kept whatever else is cleaned up.")
    interim: bool = Field(
        description="Stored so that its job could go on, at a step at which its spec asks for none; it goes "
        "once two newer ones are stored or its job has succeeded, unless it is pinned."
    )
    created_at: datetime
    urls: Urls


class CheckpointChange(BaseModel):
    """What can be changed of a checkpoint."""

    model_config = ConfigDict(extra="forbid")
    pinned: bool = Field(description="Keep it, whatever else is cleaned up.")


class ImageReply(BaseModel):
    """One image of a batch."""

    index: int
    seed: int | None = Field(
        description="The seed that alone makes this image again; null between the two of an interpolation."
    )
    label: int | None = Field(description="The class that it shows; null of a model without labels.")
    position: float | None = Field(
        description="Of an interpolation: how far on the way this image is, from 0 to 1. Null of others."
    )
    url: str | None = Field(description="Its file; null where `archive_url` is all images.")


class ImageBatchReply(BaseModel):
    """Images asked of a checkpoint; `data` and the addresses are filled once `status` is `succeeded`."""

    model_config = example(
        id=IMAGES,
        object="image_batch",
        checkpoint_id=CHECKPOINT,
        status="succeeded",
        format="png",
        quality=None,
        layout="separate",
        grid={"columns": 1, "padding": 2},
        sampler=None,
        truncation=0.5,
        interpolate=None,
        strength=None,
        animation=None,
        data=[
            {
                "index": 0,
                "seed": 1,
                "label": None,
                "position": None,
                "url": f"https://host/v1/images/{IMAGES}/0.png",
            }
        ],
        grid_url=None,
        animation_url=None,
        archive_url=None,
        error=None,
        created_at=MOMENT,
        finished_at=MOMENT,
        urls={"self": f"https://host/v1/images/{IMAGES}"},
    )
    id: str
    object: Literal["image_batch"] = "image_batch"
    checkpoint_id: str
    status: RequestStatus
    format: Literal["png", "jpeg", "webp", "npz"]
    quality: int | None = Field(description="Of `jpeg` and `webp`; null: 95 and lossless.")
    layout: Literal["separate", "grid"]
    grid: Grid | None = Field(description="How the grid is laid out; null where there can be none.")
    sampler: SamplerSpec | None = Field(
        description="The sampler with every default written out; null for a GAN."
    )
    truncation: float | None = Field(description="What cuts off a GAN's noise; null where nothing does.")
    interpolate: Interpolation | None = Field(description="The two seeds between which the images are.")
    strength: float | None = Field(description="How much of an `init_image` was changed; null without one.")
    animation: Animation | None
    data: list[ImageReply]
    grid_url: str | None = Field(description="All images in one picture; null for a single image.")
    animation_url: str | None = Field(description="All images one after another; null unless asked for.")
    archive_url: str | None = Field(description="All images in one npz file; null in other formats.")
    error: ErrorReply | None
    created_at: datetime
    finished_at: datetime | None
    urls: Urls


ASKED = ("truncation", "interpolate", "strength", "quality", "grid", "animation")
"""What is repeated of a request as it is; rows of earlier versions have none of it."""


def image_batch_reply(
    row: ImageBatch, url: Callable[[str | None], str | None], urls: dict[str, str]
) -> ImageBatchReply:
    """The reply of a row; `url` makes the address of an artifact."""
    result = row.result or {"data": [], "grid": None}
    data = [{"position": None, **image, "url": url(image["artifact"])} for image in result["data"]]
    return ImageBatchReply(
        id=row.id,
        checkpoint_id=row.checkpoint_id,
        status=row.status,
        format=row.request["format"],
        layout=row.request["layout"],
        sampler=row.request["sampler"],
        data=[ImageReply.model_validate(image) for image in data],
        grid_url=url(result["grid"]),
        animation_url=url(result.get("animation")),
        archive_url=url(result.get("archive")),
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
        urls=urls,
        **{name: row.request.get(name) for name in ASKED},
    )
