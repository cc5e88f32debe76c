"""Arrays of pixels to pictures and files."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from torch import Tensor

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "optimize": True},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "lossless": True},
}
"""How a picture is written in each file format."""


def picture(image: "np.ndarray[Any, Any] | Tensor") -> Image.Image:
    """One image, uint8 (C, H, W) with C 1 (grey) or 3 (RGB)."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"A picture needs uint8 (1 or 3, H, W), not {pixels.dtype} {pixels.shape}.")
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def grid(
    images: "np.ndarray[Any, Any] | Tensor", columns: int | None = None, padding: int = 2, scale: int = 1
) -> Image.Image:
    """Images, uint8 (N, C, H, W), row by row on white; about as many columns as rows unless said otherwise.

    Each pixel becomes `scale` x `scale` pixels; `padding` pixels of white go between and around the images.
    """
    pixels = np.asarray(images)
    if pixels.ndim != 4 or not len(pixels) or pixels.dtype != np.uint8:
        raise ValueError(f"A grid needs images, uint8 (N >= 1, C, H, W), not {pixels.dtype} {pixels.shape}.")
    pixels = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    count, channels, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    step_y, step_x = height + padding, width + padding
    canvas = np.full((channels, padding + rows * step_y, padding + columns * step_x), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        y, x = padding + i // columns * step_y, padding + i % columns * step_x
        canvas[:, y : y + height, x : x + width] = image
    return picture(canvas)


def encode(
    image: Image.Image,
    format: str = "png",  # noqa: A002
    text: Mapping[str, str] | None = None,
    quality: int | None = None,
) -> bytes:
    """The picture as a file: `png`, `jpeg` (of quality 95) or `webp` (lossless), unless `quality` is given.

    A PNG carries `text` as text chunks and nothing else; the other formats carry no text. `quality` is from 1
    to 100; a PNG is lossless and has none.
    """
    if format not in FORMATS:
        raise ValueError(f"No picture format {format!r}: use one of {', '.join(FORMATS)}.")
    options = dict(FORMATS[format])
    if quality is not None and format != "png":
        options |= {"quality": quality, "lossless": False}
    if format == "png" and text:
        options["pnginfo"] = PngInfo()
        for key, value in text.items():
            options["pnginfo"].add_text(key, value)
    return _file(image, **options)


def animate(
    images: "np.ndarray[Any, Any] | Tensor",
    format: str,  # noqa: A002
    milliseconds: int,
    quality: int | None = None,
) -> bytes:
    """Images, uint8 (N, C, H, W), one after another for ever, each for so many milliseconds.

    `webp` is lossless unless `quality` is given. `gif` has 256 colours a frame, grey ones exactly, and counts
    in hundredths of a second.
    """
    first, *others = (picture(image) for image in np.asarray(images))
    shared = {"save_all": True, "append_images": others, "duration": milliseconds, "loop": 0}
    if format == "gif":
        return _file(first, format="GIF", **shared)
    lossy = {"quality": quality, "lossless": False}
    return _file(first, **(FORMATS["webp"] if quality is None else {"format": "WEBP", **lossy}), **shared)


def archive(images: "np.ndarray[Any, Any] | Tensor", **columns: Sequence[float]) -> bytes:
    """A compressed npz file: `images` as uint8 (N, H, W, C), and each of `columns` as (N,)."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in columns.items()}
    np.savez_compressed(file, images=np.asarray(images).transpose(0, 2, 3, 1), **arrays)
    return file.getvalue()


def _file(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()
