"""From an uploaded archive to a packed set, and the report of what was left out."""

import json
import random
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from models.data import DatasetError, PackedDataset, pack_archive
from models.data.cleaning import clean
from models.data.limits import GIB, Limits
from models.data.packing import choose_resolution
from models.data.preview import draw_preview

Picture = Callable[..., bytes]
MakeZip = Callable[[Mapping[str, bytes]], Path]
MakeTar = Callable[..., Path]


def test_a_labelled_archive(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    files = {
        "mydata/dog/1.png": picture(1),
        "mydata/cat/2.jpg": picture(2, kind="JPEG"),
        "mydata/cat/1.png": picture(3, mode="RGBA"),
        "mydata/cat/readme.txt": b"hello",
    }
    packed = pack_archive(make_zip(files), tmp_path / "packed", resolution=16, name="pets")
    assert PackedDataset.open(tmp_path / "packed") == packed
    assert packed.name == "pets"
    assert packed.images.shape == (3, 3, 16, 16)
    assert packed.classes == ("cat", "dog")
    assert packed.labels.tolist() == [0, 0, 1]
    assert packed.class_counts() == {"cat": 2, "dog": 1}
    for number, name in enumerate(["mydata/cat/1.png", "mydata/cat/2.jpg", "mydata/dog/1.png"]):
        np.testing.assert_array_equal(packed.images[number], clean(files[name], 16))
    assert [dict(entry) for entry in packed.dropped] == [
        {
            "name": "mydata/cat/readme.txt",
            "reason": "it is not an image; only PNG, JPEG and WebP images are read",
        }
    ]
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == [
        "dataset.json",
        "images.npy",
        "labels.npy",
        "names.json",
    ]
    assert packed.names == ("mydata/cat/1.png", "mydata/cat/2.jpg", "mydata/dog/1.png")


def test_a_flat_archive_has_no_labels(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    packed = pack_archive(make_zip({f"mydata/{i}.png": picture(i) for i in range(3)}), tmp_path / "packed")
    assert packed.classes == ()
    assert packed.labels.tolist() == [-1, -1, -1]
    assert packed.class_counts() == {}


def test_all_grey_is_one_channel_and_any_colour_makes_three(
    picture: Picture, make_zip: MakeZip, tmp_path: Path
) -> None:
    grey = {"1.png": picture(1, mode="L"), "2.png": picture(2, mode="1")}
    assert pack_archive(make_zip(grey), tmp_path / "grey").channels == 1
    mixed = pack_archive(make_zip(grey | {"3.png": picture(3)}), tmp_path / "mixed")
    assert mixed.channels == 3
    np.testing.assert_array_equal(mixed.images[0][0], mixed.images[0][2])
    assert len(mixed.mean) == len(mixed.std) == 3


def test_the_same_files_give_the_same_set_in_any_order_and_container(
    picture: Picture, make_zip: MakeZip, make_tar: MakeTar, tmp_path: Path
) -> None:
    files = [(f"{'ab'[i % 2]}/{i}.png", picture(i)) for i in range(20)] + [("a/copy.png", picture(2))]
    packed = [pack_archive(make_zip(dict(files)), tmp_path / "0")]
    random.Random(0).shuffle(files)
    packed.append(pack_archive(make_zip(dict(files)), tmp_path / "1"))
    packed.append(pack_archive(make_tar(dict(files), compression="gz"), tmp_path / "2"))
    assert len({each.content_hash for each in packed}) == 1
    assert packed[0].dropped == packed[1].dropped == packed[2].dropped != ()
    np.testing.assert_array_equal(packed[0].images, packed[2].images)


def test_duplicates_and_contradictions_are_found_across_formats(
    picture: Picture, make_zip: MakeZip, tmp_path: Path
) -> None:
    """The same pixels are the same picture, whatever file they came in."""
    files = {
        "cat/1.png": picture(1),
        "cat/2.webp": picture(1, kind="WEBP", lossless=True),
        "cat/3.png": picture(3),
        "dog/3.png": picture(3),
        "dog/4.png": picture(4),
    }
    packed = pack_archive(make_zip(files), tmp_path / "packed")
    assert packed.count == 2
    assert {entry["name"]: entry["reason"] for entry in packed.dropped} == {
        "cat/2.webp": "it is a duplicate of cat/1.png",
        "cat/3.png": "the same picture lies under different classes (cat, dog)",
        "dog/3.png": "the same picture lies under different classes (cat, dog)",
    }


def test_nothing_but_contradictions_is_no_data(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="different classes") as caught:
        pack_archive(make_zip({"a/1.png": picture(1), "b/1.png": picture(1)}), tmp_path / "packed")
    assert caught.value.code == "no_images"
    assert [entry["name"] for entry in caught.value.dropped] == ["a/1.png", "b/1.png"]


def test_the_report_is_readable_whatever_the_names(
    picture: Picture, make_zip: MakeZip, tmp_path: Path
) -> None:
    files = {
        "\x1b[31m" + "x" * 1000 + ".txt": b"hello",
        "1.png": picture(1),
        "._1.png": b"",
        ".DS_Store": b"",
    }
    names = [entry["name"] for entry in pack_archive(make_zip(files), tmp_path / "packed").dropped]
    assert len(names) == 2
    assert len(names[0]) == 200
    assert names[0].isprintable()


def test_litter_of_operating_systems_is_one_line(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    """A zip made on a Mac holds a second file for every image."""
    files = {"1.png": picture(1)} | {f"__MACOSX/._{i}.png": b"x" for i in range(50)}
    (line,) = pack_archive(make_zip(files), tmp_path / "packed").dropped
    assert line["reason"] == "it was written by the operating system (50 files)"


def test_a_long_report_is_cut_and_says_so(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    files = {"1.png": picture(1)} | {f"{i:02}.txt": b"x" for i in range(30)}
    report = pack_archive(make_zip(files), tmp_path / "packed", limits=Limits(reported=10)).dropped
    assert len(report) == 11
    assert "20 more files" in report[-1]["reason"]
    del files["1.png"]
    with pytest.raises(DatasetError, match="30 files were dropped"):
        pack_archive(make_zip(files), tmp_path / "nothing", limits=Limits(reported=10))


def test_progress_counts_every_file(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = {f"{i}.png": picture(i) for i in range(5)} | {"x.txt": b""}
    pack_archive(
        make_zip(files), tmp_path / "packed", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(0, i) for i in range(1, 7)] + [(i, 6) for i in range(1, 7)]


def test_an_interrupted_packing_leaves_no_scratch(
    picture: Picture, make_zip: MakeZip, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_archive(make_zip({f"{i}.png": picture(i) for i in range(5)}), tmp_path / "packed", progress=stop)
    assert list((tmp_path / "packed").iterdir()) == []


@pytest.mark.parametrize(
    ("side", "resolution"), [(8, 16), (28, 32), (32, 32), (33, 64), (64, 64), (500, 256)]
)
def test_the_resolution_follows_the_images(side: int, resolution: int) -> None:
    assert choose_resolution(Counter({side: 10}), 10) == resolution


def test_a_few_odd_sizes_do_not_decide_the_resolution() -> None:
    assert choose_resolution(Counter({32: 10, 2000: 3}), 13) == 32


def test_the_resolution_of_a_vast_set_keeps_it_small() -> None:
    assert choose_resolution(Counter({1000: 400_000}), 400_000) == 32
    assert 50_000 * 3 * choose_resolution(Counter({1000: 50_000}), 50_000) ** 2 < 4 * GIB


def test_a_set_that_would_fill_the_disk_is_refused(
    picture: Picture, make_zip: MakeZip, tmp_path: Path
) -> None:
    path = make_zip({f"{i}.png": picture(i) for i in range(5)})
    with pytest.raises(DatasetError) as caught:
        pack_archive(path, tmp_path / "packed", resolution=256, limits=Limits(packed_bytes=900_000))
    assert caught.value.code == "dataset_too_large"


def test_the_preview_shows_every_class(picture: Picture, make_zip: MakeZip, tmp_path: Path) -> None:
    files = {f"{'abcd'[i // 25]}/{i}.png": picture(i) for i in range(100)}
    packed = pack_archive(make_zip(files), tmp_path / "packed", resolution=16)
    grid = np.asarray(draw_preview(packed, shown=4))
    assert grid.shape == (2 + 2 * 18, 2 + 2 * 18, 3)
    np.testing.assert_array_equal(grid[2:18, 2:18], packed.images[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(grid[20:36, 20:36], packed.images[99].transpose(1, 2, 0))


def test_packing_never_imports_torch() -> None:
    """It takes half a gigabyte, of the one that packing may take."""
    code = "import sys, models.data, models.data.preview; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


MEASURED = r"""
    import io, json, re, sys, zipfile
    from pathlib import Path
    import numpy as np
    from PIL import Image
    from models.data import pack_archive

    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    with zipfile.ZipFile(folder / "upload", "w") as archive:
        for number in range(count):
            pixels = np.zeros((64, 64, 3), np.uint8)
            pixels[:32] = np.frombuffer(number.to_bytes(3, "big"), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG", compress_level=1)
            archive.writestr(f"{number % 10}/{number:06}.png", file.getvalue())
    calls = []
    packed = pack_archive(folder / "upload", folder / "packed", progress=lambda *seen: calls.append(seen))
    # Not getrusage's: a child's starts at what its parent had, here half a gigabyte of torch.
    peak = 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    print(json.dumps([packed.count, packed.resolution, peak, len(calls)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_fifty_thousand_images_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    """600 MB of pixels at 64 px, of which no more than a few may ever be in memory."""
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path), "50000"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, resolution, peak, calls = json.loads(output)
    assert (count, resolution, calls) == (50_000, 64, 100_000)
    assert peak < 200 * 10**6
