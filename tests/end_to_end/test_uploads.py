"""From odd uploads to trained models, over HTTP, on the real embedded stack."""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.client import Client, Refused
from tests.service.conftest import start_up

pytestmark = pytest.mark.slow

GAN = {
    "preset": "dcgan",
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "budget": {"steps": 3},
    "data": {"resolution": 16},
    "batch_size": 64,
}
MODES = ("L", "LA", "RGB", "RGBA")
Upload = Callable[[dict[str, bytes]], dict[str, Any]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    stack = start_up(tmp_path_factory.mktemp("end") / "data")
    try:
        stack.wait_for("Ctrl-C stops it.")
        url, key = ((stack.folder / name).read_text().strip() for name in ("url", "api-key"))
        with Client(url, key) as client:
            yield client
    finally:
        stack.end()


@pytest.fixture
def upload(client: Client, tmp_path: Path) -> Upload:
    def prepared(files: dict[str, bytes]) -> dict[str, Any]:
        archive = tmp_path / "upload.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        posted = client.upload_dataset("odd", archive)
        return until(client, posted["id"], lambda row: row["status"] != "pending")

    return prepared


def until(client: Client, dataset: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 180  # a bound for a hung test, never for a slow machine
    while not ready(row := client.get(f"/v1/datasets/{dataset}")):
        assert time.monotonic() < deadline, row
        time.sleep(0.2)
    return row


def picture(number: int, *, bright: bool) -> bytes:
    """Noise, dark or bright, of 40×20 or 20×40 px, in one of four modes."""
    size = ((20, 40), (40, 20))[number % 2]
    noise = np.random.default_rng(number).integers(0, 60, (*size, 3)) + 150 * bright
    image = Image.fromarray(noise.astype(np.uint8)).convert(MODES[number % 4])
    if "A" in image.getbands():
        image.putalpha(250)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def succeeded(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    job = client.post("/v1/jobs", spec)
    *_, last = client.follow(f"/v1/jobs/{job['id']}", every=0.2)
    assert last["status"] == "succeeded", last["error"]
    return last


def test_an_archive_with_flipped_labels_is_reported_and_learnt_without_them(
    client: Client, upload: Upload
) -> None:
    """One to four channels, oblong both ways, two images in the wrong folder."""
    files = {f"{('dark', 'bright')[i % 2]}/{i}.png": picture(i, bright=bool(i % 2)) for i in range(80)}
    files["bright/10.png"], files["dark/33.png"] = files.pop("dark/10.png"), files.pop("bright/33.png")
    dataset = upload(files)
    assert (dataset["status"], dataset["count"], dataset["channels"]) == ("ready", 80, 3)
    dataset = until(client, dataset["id"], lambda row: row["suspects"] is not None)
    assert {one["name"]: one["likely"] for one in dataset["suspects"]} == {
        "bright/10.png": "dark",
        "dark/33.png": "bright",
    }
    assert dataset["suspects_count"] == 2
    data = {**GAN["data"], "drop_suspects": True}  # type: ignore[dict-item]
    job = succeeded(client, {**GAN, "dataset": dataset["id"], "data": data, "conditional": {}})
    assert len(client.make_images(job["best_checkpoint"], {"n": 2, "labels": [0, 1]})["data"]) == 2


@pytest.mark.parametrize("count", [1, 5])
def test_a_handful_of_images_is_learnt_and_measured_as_far_as_it_can_be(
    client: Client, upload: Upload, count: int
) -> None:
    dataset = upload({f"{i}.png": picture(i, bright=True) for i in range(count)})
    assert (dataset["count"], dataset["suspects"], dataset["suspects_count"]) == (count, [], 0)
    succeeded(client, {**GAN, "dataset": dataset["id"], "evaluation": {}})


def test_what_three_images_cannot_be_scored_by_is_refused_by_its_path(client: Client, upload: Upload) -> None:
    dataset = upload({f"{'ab'[i % 2]}/{i}.png": picture(i, bright=True) for i in range(3)})
    spec = {**GAN, "dataset": dataset["id"]}
    with pytest.raises(Refused, match=r"evaluation\.scores\.1: kid needs two real images"):
        client.post("/v1/jobs", {**spec, "evaluation": {"scores": ["mode_coverage", "kid"]}})
    job = succeeded(client, {**spec, "evaluation": {}})
    path = f"/v1/checkpoints/{job['best_checkpoint']}/evaluations"
    assert set(client.get(path.rpartition("/")[0])["scores"]) == {"inception_score", "class_kl", "modes"}
    with pytest.raises(Refused, match=r"scores\.0: kid needs two real images"):
        client.post(path, {"scores": ["kid"]})
