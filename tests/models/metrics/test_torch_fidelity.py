"""Our scores are those that torch-fidelity gives when it is called on the same images by itself."""

from pathlib import Path

import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset

from models.data import PackedDataset, split
from models.metrics.classifier import ClassifierFacts, load_classifier, pixels
from models.metrics.extractors import Extractor
from models.metrics.scores import Reference, scored
from models.spec.evaluation import ScoreKind

NAMES = {
    "score/fid": torch_fidelity.KEY_METRIC_FID,
    "score/kid": torch_fidelity.KEY_METRIC_KID_MEAN,
    "score/inception_score": torch_fidelity.KEY_METRIC_ISC_MEAN,
    "score/precision": torch_fidelity.KEY_METRIC_PRECISION,
    "score/recall": torch_fidelity.KEY_METRIC_RECALL,
}


class Images(Dataset[Tensor]):
    def __init__(self, images_NCHW: Tensor) -> None:
        self.images_NCHW = images_NCHW

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def __getitem__(self, index: int) -> Tensor:
        return self.images_NCHW[index]


def registered(extractor: Extractor) -> str:
    """The extractor under a name that torch-fidelity knows it by."""

    class Registered(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, str]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
            found = extractor(images_BCHW)
            by_name = {"features": found.features_ND, "logits": found.logits_NK}
            return tuple(by_name[name] for name in self.features_list)

    name = f"atelier-{id(Registered)}"
    torch_fidelity.register_feature_extractor(name, Registered)
    return name


@pytest.mark.parametrize(
    ("count", "options"),
    [(400, {"isc_splits": 1, "kid_subset_size": 400}), pytest.param(1200, {}, marks=pytest.mark.slow)],
)
def test_scores_are_those_of_torch_fidelity(
    digits: PackedDataset,
    trained: tuple[Path, ClassifierFacts],
    count: int,
    options: dict[str, int],
) -> None:
    """Digits against noisy digits: from 1,000 images on with every setting as it has it by default."""
    extractor = load_classifier(trained[0], "cpu")
    order = torch.cat(split(digits, 0.5)[::-1])
    real = pixels(digits, order[:count])
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0)) * 20
    made = (pixels(digits, order[-count:]) + noise).clamp(0, 255).to(torch.uint8)
    direct = torch_fidelity.calculate_metrics(
        input1=Images(made),
        input2=Images(real),
        feature_extractor=registered(extractor),
        **dict.fromkeys(("isc", "fid", "kid", "prc"), True),
        **dict.fromkeys(("cuda", "verbose", "cache"), False),
        save_cpu_ram=True,
        **options,
    )
    ours = scored(ScoreKind, extractor(made), Reference(extractor(real), torch.ones(10)))
    assert {key: ours[key] for key in NAMES} == pytest.approx(
        {key: direct[name] for key, name in NAMES.items()}, abs=1e-3
    )
    assert 0 < ours["score/precision"] < 1 < ours["score/inception_score"]
