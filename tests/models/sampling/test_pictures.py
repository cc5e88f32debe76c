"""Pictures hold exactly the pixels and the text they were given."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from models.sampling.pictures import FORMATS, encode, grid, picture


def _images(count: int, channels: int, side: int = 8) -> torch.Tensor:
    shape = (count, channels, side, side)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_lossless_files_give_every_pixel_back(channels: int, mode: str, kind: str) -> None:
    image = _images(1, channels)[0]
    read = Image.open(io.BytesIO(encode(picture(image), kind)))
    assert read.format == kind.upper()
    pixels = np.asarray(read.convert(mode)).reshape(8, 8, channels).transpose(2, 0, 1)
    assert np.array_equal(pixels, image.numpy())


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_jpeg_keeps_size_and_colour(channels: int, mode: str) -> None:
    read = Image.open(io.BytesIO(encode(picture(_images(1, channels)[0]), "jpeg")))
    assert (read.format, read.mode, read.size) == ("JPEG", mode, (8, 8))


@pytest.mark.parametrize(
    "text", [{}, {"seed": "7"}, {"seed": "7", "sampler": '{"eta": 0}', "label": "Stiefel ß 靴"}]
)
def test_png_text_is_exactly_what_was_given(text: dict[str, str]) -> None:
    """A software name, a path or a date written besides would tell a downloader of this machine."""
    read = Image.open(io.BytesIO(encode(picture(_images(1, 3)[0]), "png", text)))
    read.load()
    assert read.text == text
    assert set(read.info) == set(text)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_carry_no_text(kind: str) -> None:
    data = encode(picture(_images(1, 3)[0]), kind, {"seed": "a-secret-seed"})
    assert b"a-secret-seed" not in data


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_each_image_in_reading_order(channels: int) -> None:
    images = _images(5, channels)
    pixels = (
        np.asarray(grid(images, columns=3, padding=2)).reshape(22, 32, channels).transpose(2, 0, 1).copy()
    )
    for index, image in enumerate(images):
        y, x = 2 + index // 3 * 10, 2 + index % 3 * 10
        assert np.array_equal(pixels[:, y : y + 8, x : x + 8], image.numpy())
        pixels[:, y : y + 8, x : x + 8] = 255
    assert (pixels == 255).all()


def test_a_grid_is_about_square_and_can_be_enlarged() -> None:
    assert grid(_images(64, 1)).size == (82, 82)
    assert grid(_images(1, 1), padding=0).size == (8, 8)
    large = np.asarray(grid(_images(1, 1), padding=0, scale=3))
    assert np.array_equal(large[::3, ::3], _images(1, 1)[0, 0].numpy())
    assert large.shape == (24, 24)


@pytest.mark.parametrize("images", [_images(0, 1), _images(1, 2), _images(1, 1).float(), _images(1, 1)[0]])
def test_what_is_no_grid_of_pictures_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needs"):
        grid(images)


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=f"'gif': use one of {', '.join(FORMATS)}"):
        encode(picture(_images(1, 1)[0]), "gif")
