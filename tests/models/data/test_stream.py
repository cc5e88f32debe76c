"""Every image equally often, in an order that the seed alone decides, and that can be taken up anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies

from models.data import BatchStream, PackedDataset, split
from models.data import packed as module
from models.data.packed import write_packed
from models.spec.augmentation import OF_DATA, AugmentationKind, AugmentationSpec

FLIP = AugmentationSpec(kind=AugmentationKind.HORIZONTAL_FLIP)
FLIP_AND_CUTMIX = [FLIP, AugmentationSpec(kind=AugmentationKind.CUTMIX)]


def numbered(folder: Path, count: int = 10) -> PackedDataset:
    """Image i is black but for its left half, which has the value i; its label is i."""
    rows = np.zeros((count, 1, 16, 16), np.uint8)
    rows[..., :8] = np.arange(count)[:, None, None, None]
    labels = np.arange(count, dtype=np.int32)
    return write_packed(folder, "numbered", rows, rows.shape, labels, [str(i) for i in range(count)])


@pytest.fixture
def dataset(tmp_path: Path) -> PackedDataset:
    return numbered(tmp_path)


@pytest.fixture(scope="module")
def numbered_once(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return numbered(tmp_path_factory.mktemp("numbered"))


def shown(stream: BatchStream, batches: int) -> list[int]:
    return [int(label) for _ in range(batches) for label in stream.next()[1]]


def test_pixels_lie_in_minus_1_to_1_beside_their_labels(tmp_path: Path) -> None:
    rows = np.zeros((2, 3, 16, 16), np.uint8)
    rows[1] = 255
    dataset = write_packed(tmp_path, "x", rows, rows.shape, np.array([0, 1], np.int32), ("black", "white"))
    images, labels = BatchStream(dataset, 4, seed=0).next()
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    torch.testing.assert_close(images[:, 0, 0, 0], labels * 2.0 - 1.0, rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 25])
def test_every_epoch_shows_every_image_once(dataset: PackedDataset, batch_size: int) -> None:
    """No last partial batch may be lost, and a set may be smaller than a batch."""
    order = shown(BatchStream(dataset, batch_size, seed=3), 100)
    for start in range(0, len(order) - 9, 10):
        assert sorted(order[start : start + 10]) == list(range(10))


def test_the_seed_decides_the_order(dataset: PackedDataset) -> None:
    first = shown(BatchStream(dataset, 4, seed=1), 10)
    assert shown(BatchStream(dataset, 4, seed=1), 10) == first
    assert shown(BatchStream(dataset, 4, seed=2), 10) != first
    assert first[:10] != first[10:20]


def test_the_global_generator_is_neither_read_nor_moved(dataset: PackedDataset) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = shown(BatchStream(dataset, 4, seed=1), 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert shown(BatchStream(dataset, 4, seed=1), 3) == first


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 5, 9])
def test_a_restored_stream_goes_on_bit_for_bit(dataset: PackedDataset, batches: int) -> None:
    whole = BatchStream(dataset, 4, seed=1, augmentations=FLIP_AND_CUTMIX)
    for _ in range(batches):
        whole.next()
    state = whole.state_dict()
    resumed = BatchStream(dataset, 4, seed=1, augmentations=FLIP_AND_CUTMIX)
    resumed.load_state_dict(state)
    for _ in range(6):
        for expected, actual in zip(whole.next(), resumed.next(), strict=True):
            assert torch.equal(expected, actual)


def test_a_stream_of_other_data_or_seed_is_not_resumed(dataset: PackedDataset, tmp_path: Path) -> None:
    state = BatchStream(dataset, 4, seed=1).state_dict()
    with pytest.raises(ValueError, match="seed"):
        BatchStream(dataset, 4, seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="images"):
        BatchStream(numbered(tmp_path / "more", 11), 4, seed=1).load_state_dict(state)
    rows = np.zeros((10, 1, 16, 16), np.uint8)
    other = write_packed(tmp_path / "other", "x", rows, rows.shape, np.zeros(10, np.int32), ("0",))
    with pytest.raises(ValueError, match="content_hash"):
        BatchStream(other, 4, seed=1).load_state_dict(state)


def test_half_of_the_images_are_mirrored_and_only_when_asked(dataset: PackedDataset) -> None:
    rows = [image for _ in range(50) for image in BatchStream(dataset, 10, seed=1).next()[0]]
    assert all((image[0, :, 8:] == -1).all() for image in rows)
    stream = BatchStream(dataset, 10, seed=1, augmentations=[FLIP])
    images, labels = (torch.cat(parts) for parts in zip(*(stream.next() for _ in range(100)), strict=True))
    seen = labels > 0  # image 0 looks the same mirrored
    mirrored = (images[seen][:, 0, 0, 0] == -1).float().mean()
    assert 0.4 < mirrored < 0.6


def test_augmentations_do_not_change_the_order(dataset: PackedDataset) -> None:
    plain, mirrored = BatchStream(dataset, 4, seed=1), BatchStream(dataset, 4, seed=1, augmentations=[FLIP])
    assert shown(plain, 5) == shown(mirrored, 5)


def test_no_batch_is_augmented_like_another(dataset: PackedDataset) -> None:
    """Every epoch and, within it, every batch has numbers of its own."""
    stream = BatchStream(
        dataset,
        5,
        seed=1,
        indices=torch.tensor([9]),
        augmentations=[AugmentationSpec(kind=AugmentationKind.ROTATION)],
    )
    batches = [stream.next()[0] for _ in range(20)]
    assert len({batch.numpy().tobytes() for batch in batches}) == 20


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1)])
def test_an_augmented_image_that_nothing_happened_to_is_exact(
    dataset: PackedDataset, value_range: tuple[int, int]
) -> None:
    rare = [AugmentationSpec(kind=kind, probability=1e-9) for kind in OF_DATA]
    plain = BatchStream(dataset, 10, seed=1, value_range=value_range)
    augmented = BatchStream(dataset, 10, seed=1, value_range=value_range, augmentations=rare)
    expected, labels = plain.next()
    assert torch.equal(augmented.next()[0], expected)
    assert torch.equal(plain.at(labels)[0], expected)
    low, high = value_range
    assert expected.min() == low
    exact = labels.float() * (high - low) / 255 + low
    torch.testing.assert_close(expected[:, 0, 0, 0], exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1)])
def test_both_ranges_show_the_same_pictures(dataset: PackedDataset, value_range: tuple[int, int]) -> None:
    augmentations = [AugmentationSpec(kind=kind, probability=1.0) for kind in OF_DATA]
    stream = BatchStream(dataset, 10, seed=1, augmentations=augmentations, value_range=value_range)
    unit = BatchStream(dataset, 10, seed=1, augmentations=augmentations, value_range=(0, 1)).next()[0]
    low, high = value_range
    torch.testing.assert_close(stream.next()[0], unit * (high - low) + low)


AUGMENTATIONS = strategies.lists(
    strategies.builds(
        AugmentationSpec,
        kind=strategies.sampled_from(OF_DATA),
        probability=strategies.sampled_from([0.1, 0.5, 1.0]),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=30)
@given(
    augmentations=AUGMENTATIONS,
    seed=strategies.integers(0, 2**63 - 1),
    batch_size=strategies.integers(1, 13),
    batches=strategies.integers(0, 6),
)
def test_any_augmented_stream_goes_on_bit_for_bit(
    numbered_once: PackedDataset,
    augmentations: list[AugmentationSpec],
    seed: int,
    batch_size: int,
    batches: int,
) -> None:
    """Whatever the global generator does meanwhile, and without moving it."""

    def stream() -> BatchStream:
        return BatchStream(numbered_once, batch_size, seed, augmentations=augmentations)

    whole, resumed = stream(), stream()
    for _ in range(batches):
        whole.next()
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    for _ in range(3):
        images, labels = whole.next()
        torch.rand(1)
        before = torch.get_rng_state()
        same_images, same_labels = resumed.next()
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
        assert images.min() >= -1
        assert images.max() <= 1


def test_a_mapped_set_gives_the_same_batches(
    dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = BatchStream(dataset, 4, seed=1)
    monkeypatch.setattr(module, "MAPPED_FROM", 100)
    mapped_dataset = PackedDataset.open(tmp_path)
    assert isinstance(mapped_dataset.images, np.memmap)
    mapped = BatchStream(mapped_dataset, 4, seed=1)
    for _ in range(6):
        for expected, actual in zip(resident.next(), mapped.next(), strict=True):
            assert torch.equal(expected, actual)


def test_batches_cannot_change_the_data(dataset: PackedDataset) -> None:
    stream = BatchStream(dataset, 10, seed=1)
    before = dataset.images.copy()
    stream.next()[0].fill_(0)
    np.testing.assert_array_equal(dataset.images, before)


def test_held_out_images_are_never_shown(dataset: PackedDataset) -> None:
    trained, held_out = split(dataset, 0.3)
    assert (len(trained), len(held_out)) == (7, 3)
    assert sorted([*trained.tolist(), *held_out.tolist()]) == list(range(10))
    stream = BatchStream(dataset, 4, seed=1, indices=trained)
    assert set(shown(stream, 20)) == set(trained.tolist())
    values = (stream.at(held_out)[0][:, 0, 0, 0] + 1) * 127.5
    torch.testing.assert_close(values.round().long(), held_out)
    assert torch.equal(stream.at(held_out)[1], held_out)


def test_nothing_held_out_trains_on_everything(dataset: PackedDataset) -> None:
    trained, held_out = split(dataset, 0.0)
    assert (len(trained), len(held_out)) == (10, 0)


def test_the_split_is_the_same_at_every_resolution(dataset: PackedDataset) -> None:
    """Otherwise a run at 32 px would be scored on images that a run at 16 px was trained on."""
    assert torch.equal(split(dataset, 0.3)[1], split(dataset.at(32, 3), 0.3)[1])


@pytest.mark.parametrize(("batch_size", "indices"), [(0, None), (4, torch.empty(0, dtype=torch.int64))])
def test_empty_batches_are_refused(
    dataset: PackedDataset, batch_size: int, indices: torch.Tensor | None
) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchStream(dataset, batch_size, seed=0, indices=indices)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_are_on_the_gpu_and_equal_those_on_the_cpu(dataset: PackedDataset) -> None:
    on_cpu = BatchStream(dataset, 4, seed=1, augmentations=[FLIP])
    on_gpu = BatchStream(dataset, 4, seed=1, device="cuda", augmentations=[FLIP])
    for _ in range(6):
        for expected, actual in zip(on_cpu.next(), on_gpu.next(), strict=True):
            assert actual.device.type == "cuda"
            assert torch.equal(expected, actual.cpu())
