"""Every kind of image file becomes the same kind of array, or is refused with a reason in plain words."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data.cleaning import MAX_PIXELS, clean, shorter_side
from models.data.errors import FileRefusedError


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header announces any size; hardly any pixel follows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("RGB", "PNG", 3),
        ("RGB", "JPEG", 3),
        ("RGB", "WEBP", 3),
        ("CMYK", "JPEG", 3),
        ("P", "PNG", 3),
        ("RGBA", "PNG", 3),
        ("RGBA", "WEBP", 3),
        ("L", "PNG", 1),
        ("L", "JPEG", 1),
        ("LA", "PNG", 1),
        ("1", "PNG", 1),
    ],
)
def test_every_mode_becomes_square_uint8(
    picture: Callable[..., bytes], mode: str, kind: str, channels: int
) -> None:
    pixels = clean(picture(1, 40, mode, kind), 16)
    assert pixels.shape == (channels, 16, 16)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 5


def test_an_image_of_the_right_size_is_kept_to_the_last_bit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(clean(encode(Image.fromarray(noise)), 32), noise.transpose(2, 0, 1))


def test_sixteen_bits_become_the_same_eight() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(clean(encode(deep), 16)[0], grey)


def test_colour_without_colour_is_grey() -> None:
    """A grey set saved as RGB must train with one channel, and equal its copy saved as grey."""
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8))
    np.testing.assert_array_equal(clean(encode(grey.convert("RGB")), 16), clean(encode(grey), 16))


def test_transparency_lies_over_white() -> None:
    """What a transparent pixel hides, often black, must not show through."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((200, 10, 10, 255), (4, 4, 12, 12))
    pixels = clean(encode(image), 16)
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 8, 8].tolist() == [200, 10, 10]


def test_a_transparent_palette_colour_lies_over_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 16, 8))
    pixels = clean(encode(image, transparency=0), 16)
    assert pixels[:, 12, 8].tolist() == [255, 255, 255]
    assert pixels[:, 2, 8].tolist() == [255, 0, 0]


def test_the_centre_square_of_an_oblong_is_taken() -> None:
    image = Image.new("RGB", (48, 16), (255, 0, 0))
    image.paste((0, 255, 0), (16, 0, 32, 16))
    pixels = clean(encode(image), 16)
    assert (pixels[1] == 255).all()
    assert (pixels[0] == 0).all()


def test_the_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 32, 8))  # white above; turned by 90° clockwise it is at the right
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = clean(encode(image, "JPEG", exif=exif, quality=95), 32)
    assert pixels[0, :, -6:].min() > 200
    assert pixels[0, :, :20].max() < 60


def test_a_damaged_exif_block_does_not_cost_the_picture(picture: Callable[..., bytes]) -> None:
    data = picture(1, 32, "RGB", "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert clean(data, 32).shape == (3, 32, 32)


def test_shrinking_is_antialiased() -> None:
    """Aliasing alone costs several FID points: one-pixel stripes must become an even grey."""
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255
    pixels = clean(encode(Image.fromarray(stripes)), 16)
    assert pixels.std() < 3
    assert abs(float(pixels.mean()) - 127.5) < 3


def refusal(data: bytes) -> str:
    with pytest.raises(FileRefusedError) as caught:
        clean(data, 16)
    return str(caught.value)


def test_too_small_is_refused(picture: Callable[..., bytes]) -> None:
    assert "7×7" in refusal(picture(1, 7))
    assert clean(picture(1, 8), 16).shape == (3, 16, 16)


@pytest.mark.parametrize("size", [(100_000, 100_000), (10_000, 9_500), (8_001, 8_000)])
def test_huge_dimensions_are_refused_from_the_header(size: tuple[int, int]) -> None:
    """30 GB of pixels must not be allocated to find out; Pillow's own warnings must not decide either."""
    assert size[0] * size[1] > MAX_PIXELS
    for behaviour in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(behaviour)  # type: ignore[arg-type]
            assert "million" in refusal(huge_png(*size))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 100, 200)]
    assert "animated" in refusal(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_a_jpeg_with_a_second_picture_is_no_animation() -> None:
    """Phones write a depth map or thumbnail behind the photo (MPO)."""
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (50, 200)]
    pixels = clean(encode(frames[0], "MPO", save_all=True, append_images=frames[1:]), 16)
    assert abs(int(pixels[0].mean()) - 50) < 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_half_a_file_is_refused(picture: Callable[..., bytes], kind: str) -> None:
    data = picture(1, 64, "RGB", kind)
    assert "damaged or incomplete" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"/>',
        b"GIF89a" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + b"%!PS-Adobe-3.0",
        b"",
    ],
)
def test_no_other_decoder_is_ever_tried(data: bytes) -> None:
    """Pillow opens EPS by running Ghostscript: only the three allowed formats may be looked at."""
    assert "damaged" in refusal(data)


def test_the_survey_reads_the_shorter_side() -> None:
    assert shorter_side(encode(Image.new("RGB", (50, 20)))) == 20
