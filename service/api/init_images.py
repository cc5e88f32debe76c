"""Pictures that a client sends to begin with: told apart from anything else, within limits, made to fit."""

import base64
import binascii
import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.spec import RESOLUTIONS, JobSpec
from service.api.problems import invalid
from service.errors import Invalid

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 8 * 1024**2
MAX_PIXELS = 16_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class InitPicture:
    """The centre square of a picture, upright and without transparency, and the hash of its file."""

    square: "Image"
    sha256: str


def read_picture(text: str) -> InitPicture:
    """A PNG, JPEG or WebP file in base64; `Invalid` says what it is instead.

    The EXIF orientation is applied, transparency laid over white; all metadata stays behind. The square is
    not larger than the largest model's image. Up to 64 MB are taken a few times over while it is read.
    """
    if text.startswith("data:"):
        raise _refused("is a data: URL; leave out all of it up to the comma, and send the base64 alone")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)  # tools break it into lines
    except (binascii.Error, ValueError):
        raise _refused("is not base64; encode the bytes of a PNG, JPEG or WebP file") from None
    if len(data) > MAX_BYTES:
        raise _refused(f"has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    return InitPicture(_square(data), hashlib.sha256(data).hexdigest())


def fitted(picture: InitPicture, spec: JobSpec) -> bytes:
    """The PNG of the picture in a model's resolution and channels."""
    from PIL import Image

    channels, height, width = spec.data.image_shape
    image = picture.square.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.convert("L" if channels == 1 else "RGB").save(file, format="PNG")
    return file.getvalue()


def _square(data: bytes) -> "Image":
    # Here: a service that is never sent a picture does without Pillow.
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # What Pillow only warns of (odd EXIF, many pixels) is decided here or harmless.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_header(image)
                return _plain(_upright(image))
    except Invalid:
        raise
    except UnidentifiedImageError:
        raise _refused("is no PNG, JPEG or WebP file") from None
    except Image.DecompressionBombError:
        raise _refused(f"has more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except Exception as error:
        # Decoders fed with hostile bytes raise anything at all.
        raise _refused("is damaged or incomplete and cannot be decoded") from error


def _check_header(image: "Image") -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}×{image.height}"
        raise _refused(f"has {size} pixels; at most {MAX_PIXELS // 1_000_000} million are read")
    if image.format in {"PNG", "WEBP"} and getattr(image, "is_animated", False):
        raise _refused("is animated; only still images are read")


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a damaged EXIF block must not cost the picture
        return image


def _plain(image: "Image") -> "Image":
    """The centre square in mode L or RGB, at most as large as the largest model's image."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which the upper 8 are kept
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode in {"1", "L"} and not image.has_transparency_data:
        image = image.convert("L")
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    side, largest = min(image.size), max(RESOLUTIONS)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if side > largest:
        square = square.resize((largest, largest), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if square.mode == "RGBA":
        white = Image.new("RGBA", square.size, "white")
        square = Image.alpha_composite(white, square).convert("RGB")
    square.info = {}  # a colour profile, say, which a PNG would be written with
    return square


def _refused(what: str) -> Invalid:
    return invalid({"init_image": what})
