"""Scores networks by the images they make: the one path, while a run trains and of a stored checkpoint."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.data import PackedDataset, split
from models.metrics.classifier import load_classifier, pixels
from models.metrics.extractors import Extractor, ExtractorError, joined
from models.metrics.extractors import inception as open_inception
from models.metrics.measurement import Measurement
from models.metrics.scores import Reference, class_shares, scored
from models.sampling import generate
from models.spec import JobSpec
from models.spec.evaluation import ExtractorKind
from models.spec.training import MemoryFormat

REFERENCE = 10_000
"""Real images that made ones are scored against, at most."""

_CHUNK = 512  # images made, and then seen, at once: 100 MB of bytes at 256 px; a multiple of generate's own


class Scorer:
    """Scores networks of one spec against one dataset, `.at` the spec's resolution and channels.

    Image i is made from `evaluation.seed` + i; a conditional model makes the classes in their real shares.
    Real images are as many as made ones, from the first of the split's order on, so held-out ones first; but
    at most 10,000, and none of the half that trains classifiers. Nothing is drawn from torch's global
    generator. The networks are moved to `device`, and to the memory format that the spec trains them in,
    since the last bits of an image depend on it.
    """

    def __init__(
        self,
        spec: JobSpec,
        dataset: PackedDataset,
        extractor: Extractor,
        *,
        ema: bool,
        device: str | torch.device,
    ) -> None:
        if spec.evaluation is None:
            raise ValueError("the spec has no evaluation: nothing says what is scored")
        if extractor.classes and extractor.classes != dataset.classes:
            message = f"The classifier knows {extractor.classes}, and {dataset.name!r} has {dataset.classes}."
            raise ExtractorError("classifier_of_other_classes", message, "Train one on this dataset.")
        self._spec, self._evaluation = spec, spec.evaluation
        self._dataset, self.extractor = dataset, extractor
        self._ema, self._device = ema, torch.device(device)
        self._reference: Reference | None = None

    def __call__(self, networks: Mapping[str, nn.Module]) -> Measurement:
        """Raises SamplingError where the networks make no images."""
        return self.of_images(self._made(networks))

    def of_images(self, batches: Iterable[Tensor]) -> Measurement:
        """The scores of images that are made already: batches of uint8 N,C,H,W."""
        made = joined(map(self.extractor, batches))
        reference = self._real()
        details = self._details(len(reference.features))
        if self.extractor.classes:
            shares = class_shares(made).tolist()
            details["class_histogram"] = dict(zip(self.extractor.classes, shares, strict=True))
        return Measurement(scored(self._evaluation.scores or (), made, reference), details)

    def _made(self, networks: Mapping[str, nn.Module]) -> Iterator[Tensor]:
        channels_last = self._spec.memory_format is MemoryFormat.CHANNELS_LAST
        layout = torch.channels_last if channels_last else torch.contiguous_format
        placed = {name: network.to(memory_format=layout) for name, network in networks.items()}
        labels = class_labels(self._dataset, self._evaluation.samples) if self._spec.conditional else None
        for start in range(0, self._evaluation.samples, _CHUNK):
            end = min(start + _CHUNK, self._evaluation.samples)
            yield generate(
                placed,
                self._spec,
                range(self._evaluation.seed + start, self._evaluation.seed + end),
                sampler=self._evaluation.sampler,
                labels=None if labels is None else labels[start:end],
                device=self._device,
            )

    def _real(self) -> Reference:
        if self._reference is None:
            _, first_half = split(self._dataset, 0.5)
            chunks = (
                pixels(self._dataset, part)
                for part in torch.split(first_half[: min(self._evaluation.samples, REFERENCE)], _CHUNK)
            )
            self._reference = Reference(joined(map(self.extractor, chunks)), _class_counts(self._dataset))
        return self._reference

    def _details(self, reference: int) -> dict[str, object]:
        sampler = self._evaluation.sampler
        return {
            "samples": self._evaluation.samples,
            "reference": {"images": reference, "content_hash": self._dataset.content_hash},
            "extractor": str(self.extractor.kind),
            "extractor_sha256": self.extractor.sha256,
            "ema": self._ema,
            "seed": self._evaluation.seed,
            "sampler": None if sampler is None else sampler.model_dump(mode="json"),
        }


def open_extractor(
    kind: ExtractorKind,
    *,
    classifier: Path | None,
    inception: Path | None,
    device: str | torch.device,
    cache: Path | None = None,
) -> Extractor:
    """The extractor of a kind, from the file of `train_classifier` or that of Inception's weights.

    Where no `inception` is given it is looked for in `cache`, or downloaded into it. Raises ExtractorError.
    """
    if kind is ExtractorKind.INCEPTION:
        return open_inception(inception, device, cache=cache)
    if classifier is None:
        message = "Scores by a classifier need the file of one, and none was given."
        raise ExtractorError("classifier_missing", message, "Train one on the dataset first.")
    return load_classifier(classifier, device)


def class_labels(dataset: PackedDataset, samples: int) -> list[int]:
    """A class for each image, in the dataset's own shares to less than one image; the classes in order."""
    shares_K = np.cumsum(_class_counts(dataset).numpy()) / max(1, int((dataset.labels >= 0).sum()))
    quantiles_N = (np.arange(samples) + 0.5) / samples
    labels: list[int] = np.searchsorted(shares_K, quantiles_N, side="right").tolist()
    return labels


def _class_counts(dataset: PackedDataset) -> Tensor:
    return torch.tensor(list(dataset.class_counts().values()), dtype=torch.long)
