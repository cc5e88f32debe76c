"""What turns images into features: the kinds of the spec, all called in one way."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from models.data import default_cache
from models.spec.evaluation import FEATURES, ExtractorKind

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""The weights as torch-fidelity publishes them, converted from TensorFlow's of 2015."""

INCEPTION_SHA256 = "6726825d"
"""What the file's sha256 begins with."""

_INCEPTION_BATCH = 32  # its activations at 299 px take 12 MB an image


class ExtractorError(Exception):
    """Features that cannot be had: a stable code, what happened, and what to try."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True)
class Features:
    """What an extractor says of N images, float32 on the CPU: `features_ND`, and `logits_NK` of K classes."""

    features_ND: Tensor  # noqa: N815
    logits_NK: Tensor  # noqa: N815

    def __len__(self) -> int:
        return len(self.features_ND)


def joined(parts: Iterable[Features]) -> Features:
    """The features of all parts, in order; there must be one."""
    features, logits = zip(*((part.features_ND, part.logits_NK) for part in parts), strict=True)
    return Features(torch.cat(features), torch.cat(logits))


@dataclass(frozen=True)
class Extractor:
    """A network in eval mode from uint8 images B,C,H,W to features B,D and logits B,K, called batch by batch.

    `sha256` is of the file of its weights. A classifier also knows the `classes` of its logits, and its
    `accuracy` on images that it was not trained on.
    """

    kind: ExtractorKind
    sha256: str
    network: nn.Module = field(repr=False)
    device: torch.device
    batch_size: int
    classes: tuple[str, ...] = ()
    accuracy: float | None = None

    @property
    def features(self) -> int:
        """Dimensions of the features."""
        return FEATURES[self.kind]

    @torch.no_grad()
    def __call__(self, images_NCHW: Tensor) -> Features:
        """Features of any number of uint8 images, also of none."""
        batches = torch.split(images_NCHW, self.batch_size)
        outputs = (self.network(batch.to(self.device)) for batch in batches)
        return joined(Features(features.float().cpu(), logits.float().cpu()) for features, logits in outputs)


def inception(
    path: Path | None,
    device: str | torch.device,
    *,
    cache: Path | None = None,
    sha256: str = INCEPTION_SHA256,
) -> Extractor:
    """Inception v3 as torch-fidelity has it: 2048 features, and the logits without bias that it scores by.

    Where no `path` is given the weights are looked for in `cache` (by default `default_cache()`), and
    downloaded into it if they are missing. Raises ExtractorError also for a file of another sum.
    """
    path = _downloaded(cache or default_cache(), sha256) if path is None else path
    digest = _checked_sum(path, sha256)
    network = _Inception(path).to(device)
    return Extractor(ExtractorKind.INCEPTION, digest, network, torch.device(device), _INCEPTION_BATCH)


class _Inception(nn.Module):
    """torch-fidelity's network, shown grey images as the RGB that it expects."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        from torch_fidelity import FeatureExtractorInceptionV3  # here: its import takes seconds

        try:
            torch.load(
                path, map_location="cpu", weights_only=True
            )  # torch-fidelity would run what it unpickles
            self._network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        except Exception as error:  # of a damaged file torch raises whatever its parts raise
            message = f"{path} holds no weights of Inception v3: {type(error).__name__}."
            raise ExtractorError("inception_damaged", message, _both_ways()) from error

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features_BD, logits_BK = self._network(images_BCHW.expand(-1, 3, -1, -1))
        return features_BD, logits_BK


def _downloaded(cache: Path, sha256: str) -> Path:
    """The weights in `cache`; what comes half or wrong over the network never gets that name."""
    from torch_fidelity import feature_extractor_inceptionv3 as published

    path = cache / INCEPTION_FILE
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            published.URL_INCEPTION_V3, str(path), hash_prefix=sha256, progress=False
        )
    except (OSError, RuntimeError) as error:  # no network, no such address, no space; a wrong sum
        message = f"The weights of Inception v3 are not in {cache} and cannot be downloaded: {error}."
        raise ExtractorError("inception_missing", message, _both_ways()) from error
    return path


def _checked_sum(path: Path, expected: str) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"The weights of Inception v3 cannot be read from {path}: {error.strerror}."
        raise ExtractorError("inception_missing", message, _both_ways()) from error
    if not digest.startswith(expected):
        message = f"{path} has the sha256 {digest}; that of Inception's weights begins with {expected}."
        raise ExtractorError("inception_wrong_sum", message, _both_ways())
    return digest


def _both_ways() -> str:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return (
        f"Put the file of {URL_INCEPTION_V3} where the path says, or into the cache as {INCEPTION_FILE}; or "
        "leave the path out on a machine that may download it. For a labelled dataset, evaluation.extractor "
        "classifier needs no file."
    )
