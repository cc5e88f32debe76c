"""Pictures and archives, made in memory."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Picture = Callable[..., bytes]
Archive = Callable[[Mapping[str, bytes]], Path]


def _picture(number: int = 0, side: int = 32, mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    """A picture of noise that no other number gives, encoded."""
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def picture() -> Picture:
    return _picture


@pytest.fixture
def make_zip(tmp_path: Path) -> Archive:
    def make(files: Mapping[str, bytes]) -> Path:
        path = tmp_path / "upload"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path

    return make


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    """A tar file of plain files, and of members given as TarInfo."""

    def make(files: Mapping[str, bytes], *members: tarfile.TarInfo, compression: str = "") -> Path:
        path = tmp_path / "upload"
        mode: Any = f"w:{compression}"
        with tarfile.open(path, mode) as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            for member in members:
                archive.addfile(member)
        return path

    return make
