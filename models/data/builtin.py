"""The data sets that are always there: scikit-learn's digits, and Fashion-MNIST where it can be found."""

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.errors import DatasetError
from models.data.packed import PackedDataset, Pixels, converted, write_packed
from models.spec.data import BUILTIN_DATASETS

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_IMAGES = "train-images-idx3-ubyte.gz"
FASHION_LABELS = "train-labels-idx1-ubyte.gz"

Raw = tuple[Pixels, NDArray[np.int32]]


def build_builtin(name: str, folder: Path, *, downloads: Path | None = None) -> PackedDataset:
    """Pack the built-in set `name` into `folder`; `downloads` keeps what had to be downloaded."""
    if name not in LOADERS:
        raise DatasetError(
            "unknown_dataset",
            f"There is no built-in data set {name!r}.",
            f"Choose one of {', '.join(LOADERS)}.",
        )
    images_NHW, labels = LOADERS[name](downloads or folder)
    facts = BUILTIN_DATASETS[name]
    rows = (converted(image[np.newaxis], facts.resolution, 1) for image in images_NHW)
    shape = (len(images_NHW), 1, facts.resolution, facts.resolution)
    return write_packed(folder, name, rows, shape, labels, facts.classes)


def _digits(downloads: Path) -> Raw:
    """1,797 handwritten digits of 8×8 pixels and 17 levels, from the scikit-learn wheel."""
    from sklearn.datasets import load_digits

    images, labels = load_digits().images, load_digits().target
    return np.rint(images * (255 / 16)).astype(np.uint8), labels.astype(np.int32)


def _fashion_mnist(downloads: Path) -> Raw:
    """The 60,000 training images of Zalando's Fashion-MNIST, 28×28 grey."""
    folder = DEBIAN_FOLDER if (DEBIAN_FOLDER / FASHION_IMAGES).is_file() else _download(downloads)
    images = _read_idx(folder / FASHION_IMAGES, dimensions=3)
    labels = _read_idx(folder / FASHION_LABELS, dimensions=1)
    if images.shape != (60_000, 28, 28) or labels.shape != (60_000,):
        raise _damaged(folder, f"shapes {images.shape} and {labels.shape}")
    return images, labels.astype(np.int32)


LOADERS: dict[str, Callable[[Path], Raw]] = {"digits": _digits, "fashion-mnist": _fashion_mnist}


def _download(root: Path) -> Path:
    try:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(root), train=True, download=True)
    except (ImportError, OSError, RuntimeError) as error:
        raise DatasetError(
            "dataset_unavailable",
            f"Fashion-MNIST is neither in {DEBIAN_FOLDER} nor could it be downloaded ({error}).",
            "Install Debian's package `dataset-fashion-mnist`, or let this machine reach the internet once.",
        ) from error
    return root / "FashionMNIST" / "raw"


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes: a magic number, one big-endian size for each dimension, the data."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    header = struct.calcsize(f">{1 + dimensions}I")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header].ljust(header, b"\x00"))
    if magic != 0x0800 + dimensions or len(data) - header != np.prod(shape):
        raise _damaged(path, "its header does not fit its data")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _damaged(path: Path, detail: str) -> DatasetError:
    return DatasetError(
        "dataset_unavailable",
        f"{path} is not the Fashion-MNIST that was expected ({detail}).",
        "Install the package or download the files again.",
    )
