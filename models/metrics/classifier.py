"""The classifier whose features score a labelled dataset: trained once, on images that no score uses."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data import PackedDataset, split
from models.metrics.extractors import Extractor, ExtractorError
from models.spec.evaluation import FEATURES, ExtractorKind

VERSION = 1
"""Changes with everything that changes the weights: scores by different classifiers cannot be compared."""

_METADATA = f"atelier-classifier-v{VERSION}"  # the entry of the file that says what it is of
_SIDE = 32  # larger images are shown to it at this size
_SHIFT = 2  # pixels, at most, that an image is moved by while it trains
_BATCH, _EXTRACTED_BATCH = 128, 64
_SEEN = 120_000  # images shown while it trains, at most,
_EPOCHS = 20  # and how often each is shown
_LEARNING_RATE = 4e-3
_SEED = 0


@dataclass(frozen=True)
class ClassifierFacts:
    """A classifier on disk; `accuracy` is of `images` images it was not trained on (0 of none)."""

    accuracy: float
    images: int
    sha256: str
    key: str


class Classifier(nn.Module):
    """A small convolutional network: uint8 images B,C,H,W to 64 features, and the logits of K classes.

    The features are means over the map of the last layer, so any size of image will do.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        width = FEATURES[ExtractorKind.CLASSIFIER]
        self.layers = nn.Sequential(
            *_layer(channels, 24, stride=2),
            *_layer(24, 48, stride=2),
            *_layer(48, width, stride=1),
            nn.MaxPool2d(2),
            *_layer(width, width, stride=1),
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features_BD = self.layers(_inputs(images_BCHW)).mean(dim=(2, 3))
        return features_BD, self.head(features_BD)


def classifier_key(dataset: PackedDataset) -> str:
    """The name of the classifier's file: of these very images, labels and classes, and of this version."""
    return f"classifier-{dataset.content_hash}-v{VERSION}.safetensors"


def train_classifier(dataset: PackedDataset, path: Path) -> ClassifierFacts:
    """Train on the second half of the split's order, test on the first, write `path`: whole, or not at all.

    On one thread of the CPU, seeded, without a draw from torch's global generator: a dataset gives one
    classifier, but for last bits that depend on the kind of processor. Images without a label are left out.
    """
    training, reference = (_labelled(dataset, half) for half in split(dataset, 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = Classifier(dataset.channels, len(dataset.classes))
    with one_thread():
        _fit(network, dataset, training)
        accuracy = _accuracy(network, dataset, reference)
    about = {
        "content_hash": dataset.content_hash,
        "channels": dataset.channels,
        "classes": list(dataset.classes),
        "accuracy": accuracy,
        "images": len(reference),
    }
    sha256 = _write(path, network, about)
    return ClassifierFacts(accuracy, len(reference), sha256, classifier_key(dataset))


def load_classifier(path: Path, device: str | torch.device) -> Extractor:
    """The extractor that `train_classifier` wrote to `path`. Raises ExtractorError."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_METADATA])
        network = Classifier(about["channels"], len(about["classes"]))
        network.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        message = f"{path} holds no classifier of version {VERSION} ({type(error).__name__}: {error})."
        raise ExtractorError("classifier_damaged", message, "Remove it: it is trained again.") from error
    return Extractor(
        ExtractorKind.CLASSIFIER,
        digest,
        network.eval().to(device),
        torch.device(device),
        _EXTRACTED_BATCH,
        tuple(about["classes"]),
        about["accuracy"],
    )


def pixels(dataset: PackedDataset, indices: Tensor) -> Tensor:
    """The images of these numbers as uint8 N,C,H,W."""
    return torch.from_numpy(dataset.images[indices.numpy()])


def _layer(inputs: int, outputs: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def _inputs(images_BCHW: Tensor) -> Tensor:
    """Bytes to [-1, 1], at no more than 32 px."""
    inputs = images_BCHW.float().div(127.5).sub(1)
    if max(inputs.shape[-2:]) > _SIDE:
        inputs = F.interpolate(inputs, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return inputs


def _labelled(dataset: PackedDataset, indices: Tensor) -> Tensor:
    return indices[torch.from_numpy(dataset.labels[indices.numpy()] >= 0)]


def _labels(dataset: PackedDataset, indices: Tensor) -> Tensor:
    return torch.from_numpy(dataset.labels[indices.numpy()]).long()


def _fit(network: Classifier, dataset: PackedDataset, indices: Tensor) -> None:
    """Adam with a cosine to zero, on cross entropy; of no image nothing is learned."""
    if not len(indices):
        return
    generator = torch.Generator().manual_seed(_SEED)
    size = min(_BATCH, len(indices))
    steps = max(1, min(_SEEN, _EPOCHS * len(indices)) // size)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches = _batches(indices, size, generator)
    network.train()
    for _ in range(steps):
        batch = next(batches)
        _, logits = network(_shifted(pixels(dataset, batch), generator))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, _labels(dataset, batch)))
        optimizer.step()
        schedule.step()
    network.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Gradients summed by several threads differ in their last bits from those of another number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(indices: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of one size; what an epoch leaves over is dropped from it."""
    while True:
        order = indices[torch.randperm(len(indices), generator=generator)]
        yield from torch.split(order[: len(order) // size * size], size)


def _shifted(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to 2 px (of 32) each way, its edge repeated."""
    _, _, height, width = images_BCHW.shape
    most = max(1, _SHIFT * max(height, width) // _SIDE)
    padded = F.pad(images_BCHW.float(), (most,) * 4, mode="replicate").to(torch.uint8)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * most + 1, (2, len(images_BCHW)), generator=generator)
    return windows[torch.arange(len(images_BCHW)), :, down, right]


@torch.no_grad()
def _accuracy(network: Classifier, dataset: PackedDataset, indices: Tensor) -> float:
    network.eval()
    right = 0
    for part in torch.split(indices, _BATCH):
        _, logits = network(pixels(dataset, part))
        right += int((logits.argmax(dim=1) == _labels(dataset, part)).sum())
    return right / max(1, len(indices))


def _write(path: Path, network: Classifier, about: dict[str, Any]) -> str:
    """Write the file under another name first; the sha256 of it."""
    content = safetensors.torch.save(network.state_dict(), {_METADATA: json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return hashlib.sha256(content).hexdigest()
