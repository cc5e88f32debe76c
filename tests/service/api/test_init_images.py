"""Pictures that are sent to begin with: made to fit, or refused at once with the reason."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.Image import Exif
from PIL.PngImagePlugin import PngInfo

from service.api import images as api_images
from service.api import init_images
from service.records import images
from service.records.database import Database
from tests.service.api.conftest import Trained

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ASYNC = {"Prefer": "respond-async"}
Send = Callable[..., Any]


def written(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it is `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


WHOLE = written(Image.new("RGB", (40, 30), "red"))
FILM = [Image.new("L", (8, 8), shade) for shade in (0, 128)]
BAD: dict[str, tuple[str, str]] = {
    "no base64": ("not base64!", "is not base64"),
    "empty": (base64.b64encode(b"").decode() or "=", "is not base64"),
    "data URL": ("data:image/png;base64," + base64.b64encode(WHOLE).decode(), "leave out all of it up to"),
    "text": (base64.b64encode(b"hello, I am no picture").decode(), "is no PNG, JPEG or WebP"),
    "gif": (base64.b64encode(written(Image.new("L", (9, 9)), "GIF")).decode(), "is no PNG, JPEG or WebP"),
    "bmp": (base64.b64encode(written(Image.new("L", (9, 9)), "BMP")).decode(), "is no PNG, JPEG or WebP"),
    "cut off": (base64.b64encode(WHOLE[:-30]).decode(), "damaged"),
    "large": (base64.b64encode(bomb(4001)).decode(), "16 million"),
    "bomb": (base64.b64encode(bomb(60_000)).decode(), "16 million"),
    "film": (
        base64.b64encode(written(FILM[0], "WEBP", save_all=True, append_images=FILM[1:])).decode(),
        "animated",
    ),
}


@pytest.fixture
def send(client: TestClient, train: Callable[..., Trained]) -> Send:
    """Asks a diffusion model of 16 px for variations of a picture."""

    def post(file: bytes | str, preset: str = "ddpm", channels: int = 1, **asked: Any) -> Any:
        trained = train(preset=preset, data={"resolution": 16, "channels": channels})
        text = file if isinstance(file, str) else base64.b64encode(file).decode()
        body = {"init_image": text, **asked}
        return client.post(f"/v1/checkpoints/{trained.checkpoint}/images", json=body, headers=ASYNC)

    return post


@pytest.fixture
def fitted(send: Send, database: Database) -> Callable[..., Image.Image]:
    """The picture as a worker is given it."""

    def read(file: bytes | str, **asked: Any) -> Image.Image:
        reply = send(file, **asked)
        assert reply.status_code == 202, reply.text
        with database.read() as session:
            row = images.get(session, reply.json()["id"])
        return Image.open(io.BytesIO(base64.b64decode(row.request["init_image"]["png"])))

    return read


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_picture_is_refused_and_not_queued(send: Send, database: Database, bad: str) -> None:
    text, why = BAD[bad]
    refused = send(text, strength=0.5)
    assert refused.status_code == 422
    assert [error["path"] for error in refused.json()["errors"]] == ["init_image"]
    assert why in refused.json()["detail"]
    with database.transaction() as session:
        assert images.claim_next(session, "test") is None


def test_more_bytes_than_are_read_are_refused(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_images, "MAX_BYTES", len(WHOLE) - 1)
    assert "at most" in send(WHOLE).json()["detail"]
    assert send("A" * 2_000_000).status_code == 413  # the limit of every body


def test_a_picture_that_is_of_no_use_is_not_read(
    send: Send, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when half a second is spent on decoding for a GAN, or for a checkpoint that is not there."""
    monkeypatch.setattr(api_images, "read_picture", lambda _: pytest.fail("it was read"))
    assert send(WHOLE, preset="dcgan").json()["errors"][0]["path"] == "init_image"
    nowhere = client.post("/v1/checkpoints/ckpt_x/images", json={"init_image": "AAAA"}, headers=ASYNC)
    assert nowhere.status_code == 404


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"preset": "dcgan"}, "init_image"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.5}, "strength"),
        ({"truncation": 0.5}, "truncation"),
    ],
)
def test_what_does_not_fit_is_refused(send: Send, asked: dict[str, Any], path: str) -> None:
    refused = send(WHOLE, **asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, path)


def test_the_centre_square_is_resized_to_the_model(fitted: Callable[..., Image.Image]) -> None:
    """Breaks when a picture is stretched, or the middle of it is not what is kept."""
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("red", (100, 0, 200, 100))
    for file_format in ("PNG", "JPEG", "WEBP"):
        image = fitted(written(wide, file_format, quality=100), channels=3)
        assert (image.mode, image.size) == ("RGB", (16, 16))
        red, green, blue = image.getpixel((8, 8))  # type: ignore[misc]
        assert red > 245
        assert max(green, blue) < 10
    assert fitted(written(wide)).mode == "L"


def test_a_picture_of_the_models_size_is_kept_to_the_last_bit(fitted: Callable[..., Image.Image]) -> None:
    noise = Image.effect_noise((16, 16), 90)
    assert fitted(written(noise)).tobytes() == noise.tobytes()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_base64_may_come_in_lines(fitted: Callable[..., Image.Image], end: str) -> None:
    """Breaks when what `base64` and `openssl` print by themselves is said to be no base64."""
    noise = Image.effect_noise((16, 16), 90)
    text = base64.encodebytes(written(noise)).decode().replace("\n", end)
    assert text.count(end) > 2
    assert fitted(text).tobytes() == noise.tobytes()


def test_odd_pictures_are_understood(fitted: Callable[..., Image.Image]) -> None:
    """16 bits are cut to 8, transparency lies over white, a palette has colours."""
    deep = Image.new("I;16", (16, 16), 0x8000)
    assert fitted(written(deep)).getpixel((3, 3)) == 0x80
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert fitted(written(clear)).getpixel((3, 3)) == 255
    assert fitted(written(Image.new("P", (16, 16)))).getpixel((3, 3)) == 0
    assert fitted(written(Image.new("CMYK", (64, 64)), "JPEG")).getpixel((3, 3)) == 255
    large = Image.new("L", (3000, 2000), 77)
    assert fitted(written(large)).getpixel((3, 3)) == 77


def test_the_orientation_is_applied_and_no_metadata_is_kept(fitted: Callable[..., Image.Image]) -> None:
    """Breaks when where a photograph was taken gets into a row, a file or a reply."""
    half = Image.new("L", (16, 16), 255)
    half.paste(0, (0, 0, 16, 8))
    exif = Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    exif[0x010E] = "a secret place"
    about = PngInfo()
    about.add_text("comment", "a secret name")
    for file in (
        written(half, "PNG", exif=exif, icc_profile=b"a secret profile", pnginfo=about),
        written(half, "JPEG", exif=exif, quality=100, comment="a secret name"),
        written(half, "WEBP", exif=exif, lossless=True, icc_profile=b"a secret profile"),
    ):
        image = fitted(file)
        assert image.getpixel((2, 8)) > 250  # type: ignore[operator]
        assert image.getpixel((13, 8)) < 5  # type: ignore[operator]
        assert image.info == {}


def test_the_strength_is_written_out(send: Send, database: Database) -> None:
    replies = [send(WHOLE).json(), send(WHOLE, strength=1).json(), send(WHOLE, n=3, seed=1).json()]
    assert [reply["strength"] for reply in replies] == [0.6, 1.0, 0.6]
    with database.read() as session:
        row = images.get(session, replies[2]["id"])
    assert row.request["seeds"] == [1, 2, 3]
    assert "png" not in replies[2]
