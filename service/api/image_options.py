"""What may be said of images beside their seeds: interpolation, grid, animation, and which of it fits."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.spec import FieldError
from models.spec.fields import Seed

MAX_IMAGES = 1000
PADDING = 2
MAX_SIDE = {"png": 65_500, "jpeg": 65_500, "webp": 16_383}
"""The largest side in pixels that a file format, or what reads it, can have."""


class Interpolation(BaseModel):
    """The way from one seed's noise to another's, in steps of equal angles (slerp)."""

    model_config = ConfigDict(extra="forbid")
    start: Seed = Field(alias="from", description="The seed of the first image.")
    end: Seed = Field(alias="to", description="The seed of the last image.")
    steps: Annotated[int, Field(ge=2, le=MAX_IMAGES)] = Field(
        description="How many images, the first and the last among them."
    )


class Animation(BaseModel):
    """The images of an interpolation one after another, for ever."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["webp", "gif"] = Field(
        "webp", description="`webp`: lossless unless `quality` is given. `gif`: 256 colours a frame."
    )
    frame_milliseconds: Annotated[int, Field(ge=20, le=10_000)] = Field(
        100, description="How long each image is shown; in a `gif` to a hundredth of a second."
    )


class Grid(BaseModel):
    """How the picture of all images is laid out."""

    model_config = ConfigDict(extra="forbid")
    columns: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = Field(
        None, description="Images in a row; left out: about as many columns as rows."
    )
    padding: Annotated[int, Field(ge=0, le=32)] = Field(
        PADDING, description="Pixels of white between and around the images."
    )


def grid_order(asked: Grid | None, count: int) -> dict[str, Any]:
    """The grid of so many images, with every choice written out."""
    grid = asked or Grid.model_validate({})
    columns = grid.columns or math.ceil(math.sqrt(count))
    return {"columns": min(columns, count), "padding": grid.padding}


def file_errors(
    file_format: str, quality: int | None, animation: Animation | None, *, interpolates: bool
) -> Iterator[FieldError]:
    """What does not fit the formats of the files."""
    if animation is not None and not interpolates:
        message = "shows the images of an interpolation, one after another; give interpolate, too"
        yield FieldError("animation", message)
    lossy = file_format in {"jpeg", "webp"} or (animation is not None and animation.format == "webp")
    if quality is not None and not lossy:
        message = f"holds for jpeg and webp alone: a file in {file_format} is exact; leave it out"
        yield FieldError("quality", message)


def grid_errors(
    file_format: str, layout: str, asked: Grid | None, count: int, shape: tuple[int, int, int]
) -> Iterator[FieldError]:
    """What does not fit a grid of so many images, each of `shape` (C, H, W)."""
    if file_format == "npz":
        if layout == "grid":
            yield FieldError("layout", "an npz file holds all images as they are; leave layout out")
        if asked is not None:
            yield FieldError("grid", "an npz file holds all images as they are; leave grid out")
        return
    grid = grid_order(asked, count)
    columns, padding, (_, height, width) = grid["columns"], grid["padding"], shape
    longest = max(columns * (width + padding), math.ceil(count / columns) * (height + padding)) + padding
    if longest > MAX_SIDE[file_format]:
        message = (
            f"makes a grid of {longest:,} pixels a side, and {file_format} has at most "
            f"{MAX_SIDE[file_format]:,}; choose another number of columns"
        )
        yield FieldError("grid.columns", message)
