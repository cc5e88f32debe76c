"""Inception's plumbing, on random weights of its shape: the real ones are a download of 95 MB."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
import torch_fidelity
from torch_fidelity import feature_extractor_inceptionv3 as published

from models.metrics.extractors import INCEPTION_FILE, ExtractorError, inception
from models.metrics.scorer import open_extractor
from models.spec.evaluation import FEATURES, ExtractorKind


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like the published one, but random; torch-fidelity builds its network from a file alone."""
    path = tmp_path_factory.mktemp("inception") / INCEPTION_FILE
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(published.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = torch_fidelity.FeatureExtractorInceptionV3("random", ["2048"], str(path))
    torch.save(network.state_dict(), path)
    return path


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def images(count: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, channels, 16, 16), generator=generator).to(torch.uint8)


def test_features_are_those_of_torch_fidelity(weights: Path) -> None:
    digest = sum_of(weights)
    extractor = inception(weights, "cpu", sha256=digest[:8])
    assert (extractor.kind, extractor.sha256, extractor.classes) == (ExtractorKind.INCEPTION, digest, ())
    direct = torch_fidelity.FeatureExtractorInceptionV3("direct", ["2048", "logits_unbiased"], str(weights))
    found, (features, logits) = extractor(images(2, 3)), direct(images(2, 3))
    assert torch.equal(found.features_ND, features)
    assert torch.equal(found.logits_NK, logits)
    assert found.features_ND.shape[1] == extractor.features == FEATURES[ExtractorKind.INCEPTION]


def test_grey_is_shown_as_colour(weights: Path) -> None:
    extractor = inception(weights, "cpu", sha256=sum_of(weights))
    grey = images(2, 1)
    assert torch.equal(extractor(grey).features_ND, extractor(grey.repeat(1, 3, 1, 1)).features_ND)


def test_a_file_of_another_sum_is_refused(weights: Path) -> None:
    with pytest.raises(ExtractorError) as refused:
        inception(weights, "cpu")
    assert refused.value.code == "inception_wrong_sum"
    assert sum_of(weights) in refused.value.message
    assert "6726825d" in refused.value.message


def test_a_missing_file_names_both_ways(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError) as refused:
        inception(tmp_path / "nowhere.pth", "cpu")
    assert refused.value.code == "inception_missing"
    assert str(tmp_path / "nowhere.pth") in refused.value.message
    assert published.URL_INCEPTION_V3 in refused.value.hint
    assert "leave the path out" in refused.value.hint
    assert "classifier" in refused.value.hint


def test_weights_in_the_cache_are_used(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "URL_INCEPTION_V3", "file:///nowhere")
    extractor = inception(None, "cpu", cache=weights.parent, sha256=sum_of(weights))
    assert extractor.sha256 == sum_of(weights)


def test_weights_are_downloaded_into_the_cache_once(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "URL_INCEPTION_V3", weights.as_uri())
    cache = tmp_path / "cache"
    assert inception(None, "cpu", cache=cache, sha256=sum_of(weights)).sha256 == sum_of(weights)
    assert [file.name for file in cache.iterdir()] == [INCEPTION_FILE]


@pytest.mark.parametrize("served", ["nothing", "another file"])
def test_a_download_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    source, cache = tmp_path / "published.pth", tmp_path / "cache"
    if served == "another file":
        source.write_bytes(b"a page that says please log in")
    monkeypatch.setattr(published, "URL_INCEPTION_V3", source.as_uri())
    with pytest.raises(ExtractorError, match="cannot be downloaded") as refused:
        inception(None, "cpu", cache=cache)
    assert refused.value.code == "inception_missing"
    assert list(cache.iterdir()) == []


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("content", ["text", "pickle", "other weights"])
def test_a_file_of_the_right_sum_that_is_no_inception_runs_nothing(tmp_path: Path, content: str) -> None:
    """The sum is known by its first 32 bits alone, and a pickle may hold a program."""
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    if content == "text":
        path.write_bytes(b"not weights")
    elif content == "pickle":
        path.write_bytes(pickle.dumps(_Attack(ran)))
    else:
        torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ExtractorError) as refused:
        inception(path, "cpu", sha256=sum_of(path))
    assert refused.value.code == "inception_damaged"
    assert not ran.exists()


def test_a_classifier_that_was_not_given_is_asked_for() -> None:
    with pytest.raises(ExtractorError) as refused:
        open_extractor(ExtractorKind.CLASSIFIER, classifier=None, inception=None, device="cpu")
    assert refused.value.code == "classifier_missing"
