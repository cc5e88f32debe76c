"""What the service answers about datasets."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from service.api.replies import DATASET, MOMENT, SHA256, ErrorReply, Urls, example
from service.records.status import DatasetStatus


class DroppedReply(BaseModel):
    """A file that was left out."""

    name: str
    reason: str


class SuspectReply(BaseModel):
    """An image whose label is probably wrong."""

    index: int = Field(description="Its number in the packed set.")
    name: str | None = Field(description="The file it came from; null where that is not known.")
    given: str = Field(description="The class it has.")
    likely: str = Field(description="The class it looks like.")
    confidence: float = Field(description="How sure of that a classifier is that never saw it, in 0.5..1.")


class DatasetReply(BaseModel):
    """A set of images; the facts are null until it is `ready`."""

    model_config = example(
        id=DATASET,
        object="dataset",
        name="shapes",
        builtin=False,
        status="ready",
        count=120,
        classes={"circle": 60, "square": 60},
        class_names=["circle", "square"],
        channels=3,
        resolution=64,
        mean=[0.5, 0.5, 0.5],
        std=[0.25, 0.25, 0.25],
        content_hash=SHA256,
        dropped=[{"name": "circle/broken.png", "reason": "not an image"}],
        suspects=[
            {"index": 7, "name": "circle/8.png", "given": "circle", "likely": "square", "confidence": 0.99}
        ],
        suspects_count=1,
        progress={"done": 121, "total": 121},
        error=None,
        created_at=MOMENT,
        urls={"self": f"https://host/v1/datasets/{DATASET}"},
    )
    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    builtin: bool = Field(description="Whether it is always there, under its name as id.")
    status: DatasetStatus
    count: int | None = Field(description="Images kept.")
    classes: dict[str, int] | None = Field(description="Images a class; empty without labels.")
    class_names: list[str] | None = Field(
        description="The classes in the order of their labels: label i means name i."
    )
    channels: int | None = Field(description="1 (grey) or 3 (RGB).")
    resolution: int | None = Field(description="Side of the square images in pixels.")
    mean: list[float] | None = Field(description="Mean of each channel, in 0..1.")
    std: list[float] | None = Field(description="Standard deviation of each channel, in 0..1.")
    content_hash: str | None = Field(description="SHA-256 of pixels, labels and class names.")
    dropped: list[DroppedReply] = Field(description="Every file that was left out, and why.")
    suspects: list[SuspectReply] | None = Field(
        description="Images whose label is probably wrong, surest first, at most 1,000 of them; null while "
        "they are not known, and for built-in sets."
    )
    suspects_count: int | None = Field(description="How many there are; null as `suspects` is.")
    progress: "DatasetProgress"
    error: ErrorReply | None
    created_at: datetime
    urls: Urls


class DatasetProgress(BaseModel):
    """How far packing has come."""

    done: int = Field(description="Files looked at.")
    total: int = Field(description="Files in the archive; 0 until they are counted.")
