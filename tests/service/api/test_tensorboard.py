"""A job's TensorBoard files over HTTP, as a real TensorBoard shows them."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from models.tensorboard import TensorBoardWriter
from models.training.events import Evaluated, Progress, Sampled
from service.artifacts import Artifacts
from service.event_files import event_file_key
from tests.service.api.conftest import Trained
from tests.tensorboard_server import tensorboard

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def event_file(folder: Path, losses: dict[int, float]) -> bytes:
    """What a trainer writes whose loss at each step is given, with a picture and a score at the last."""
    (folder / "samples").mkdir(parents=True)
    Image.new("RGB", (4, 2), (255, 0, 0)).save(folder / "samples" / "last.png")
    writer = TensorBoardWriter(folder)
    for step, loss in losses.items():
        writer.add(Progress(step, step * 8, 100.0, {"loss/generator": loss}))
    writer.add(Sampled(step, step * 8, "samples/last.png"))
    writer.add(Evaluated(step, step * 8, {"score/fid": 12.5}, 8))
    writer.close()
    return writer.path.read_bytes()


def test_tensorboard_shows_what_was_downloaded(
    client: TestClient, train: Callable[..., Trained], artifacts: Artifacts, tmp_path: Path
) -> None:
    """Breaks when curves or pictures are lost between a trainer and a person's TensorBoard."""
    runs = {train().job: {1: 0.5, 2: 0.25}, train().job: {1: 4.0}}
    for job, losses in runs.items():
        artifacts.put_bytes(event_file(tmp_path / job, losses), event_file_key(job, 1))
        got = client.get(client.get(f"/v1/jobs/{job}").json()["urls"]["tensorboard"])
        assert (got.status_code, got.headers["content-type"]) == (200, "application/zip")
        assert got.headers["content-length"] == str(len(got.content))
        assert f'filename="{job}-tensorboard.zip"' in got.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
            assert archive.namelist() == [f"{job}/events.out.tfevents.000001"]
            archive.extractall(tmp_path / "board")
    with tensorboard(tmp_path / "board") as board:
        for job in runs:
            board.wait_for(job, "scalars", "score/fid")
        assert board.tags("scalars") == {
            job: ["loss/generator", "rate/images_per_second", "score/fid"] for job in runs
        }
        for job, losses in runs.items():
            assert board.scalars(job, "loss/generator") == list(losses.items())
            ((step, png),) = board.images(job, "samples")
            assert step == max(losses)
            assert Image.open(io.BytesIO(png)).getpixel((0, 0)) == (255, 0, 0)


def test_a_head_says_the_length_alone(client: TestClient, trained: Trained, artifacts: Artifacts) -> None:
    artifacts.put_bytes(b"events", event_file_key(trained.job, 1))
    url = f"/v1/jobs/{trained.job}/tensorboard"
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(client.get(url).content))


def test_no_files_are_a_404(client: TestClient, trained: Trained) -> None:
    for job, code in ((trained.job, "tensorboard_not_found"), ("job_x", "job_not_found")):
        gone = client.get(f"/v1/jobs/{job}/tensorboard")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, code)
