"""One file's bytes -> one square uint8 picture, or the reason why not."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.entries import image_format
from models.data.errors import FileRefusedError

MIN_SIDE = 8
MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITE = (255, 255, 255, 255)


def shorter_side(data: bytes) -> int:
    """The shorter side in pixels, from the header alone."""
    with _opened(data) as image:
        return min(image.size)


def clean(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """A PNG, JPEG or WebP file as uint8 C,H,W with H = W = `resolution`, and C = 1 if it has no colour.

    The EXIF orientation is applied and all metadata dropped, transparency is laid over white, 16 bits become
    8, CMYK and palettes become RGB; then the centre square is cut out and resized by LANCZOS.
    """
    with _opened(data) as image:
        upright = _turned(image)
        square = _resized(_plain(upright), resolution)
    return _without_needless_channels(np.asarray(square))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image behind the checks that need its header only; whatever a decoder raises becomes a reason."""
    try:
        with warnings.catch_warnings():
            # What Pillow only warns of (odd EXIF, many pixels) is decided here or harmless.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(io.BytesIO(data), formats=(image_format(data) or "PNG",)) as image:
                _check_header(image)
                yield image
    except FileRefusedError:
        raise
    except Image.DecompressionBombError as error:
        raise FileRefusedError(f"it has more than {MAX_PIXELS // 1_000_000} million pixels") from error
    except Exception as error:
        # Decoders fed with hostile bytes raise anything at all.
        raise FileRefusedError("it is damaged or incomplete and cannot be decoded") from error


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise FileRefusedError(
            f"it has {width}×{height} pixels; at most {MAX_PIXELS // 1_000_000} million are read"
        )
    if min(width, height) < MIN_SIDE:
        raise FileRefusedError(f"it has {width}×{height} pixels; each side needs at least {MIN_SIDE}")
    # A phone's JPEG may hold a second picture (MPO), which is no animation: its first one is read.
    if image.format in {"PNG", "WEBP"} and getattr(image, "is_animated", False):
        raise FileRefusedError("it is animated; only still images are read")


def _turned(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block must not cost the picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB or RGBA with 8 bits a channel."""
    if image.mode.startswith("I"):
        high_bytes = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(high_bytes.astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in {"1", "L"}:
        return image.convert("L")
    return image.convert("RGB")


def _resized(image: Image.Image, resolution: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    if square.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", square.size, WHITE), square).convert("RGB")
    return square


def _without_needless_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        return pixels[np.newaxis].copy()
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red[np.newaxis].copy()
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
