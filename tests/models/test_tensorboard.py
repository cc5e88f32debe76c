"""What a run tells is what TensorBoard shows, also of a run that was killed."""

import html
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from models.sampling import pictures
from models.tensorboard import TensorBoardWriter
from models.training.events import Alert, Evaluated, Finished, Progress, Sampled, Saved, Started
from tests.tensorboard_server import tensorboard


def picture(out: Path, name: str = "samples/00000002.png") -> bytes:
    """A PNG of 5 × 3 pixels below the run's folder."""
    pixels = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)
    png = pictures.encode(pictures.picture(pixels))
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(png)
    return png


def test_tensorboard_shows_what_the_run_told(tmp_path: Path) -> None:
    """Breaks when a tag, a step, a value or a picture is not what the event held."""
    png = picture(tmp_path)
    writer = TensorBoardWriter(tmp_path)
    writer.add(Started({"family": "gan", "seed": 7}, {"generator": 3}, 2, "cpu"))
    for step, loss in ((1, 0.5), (2, 0.25)):
        writer.add(Progress(step, step * 8, 100.0 * step, {"loss/generator": loss}))
    writer.add(Progress(3, 24, 300.0, {}))
    writer.add(Sampled(2, 16, "samples/00000002.png"))
    (tmp_path / "samples" / "00000002.png").unlink()  # a picture is moved once it is told
    writer.add(Saved(2, 16, "checkpoints/2", "ab", 1, 2))
    writer.add(Evaluated(2, 16, {"score/fid": 12.5}, 8))
    writer.add(Alert(2, "warning", "D wins.", {}))
    writer.add(Finished(2, 16, 1.0))
    writer.close()
    writer.close()

    assert list((tmp_path / "tensorboard").iterdir()) == [writer.path]
    with tensorboard(tmp_path / "tensorboard") as board:
        board.wait_for(".", "text", "alerts")  # the last record
        assert board.tags("scalars") == {".": ["loss/generator", "rate/images_per_second", "score/fid"]}
        assert board.scalars(".", "loss/generator") == [(1, 0.5), (2, 0.25)]
        assert board.scalars(".", "rate/images_per_second") == [(1, 100.0), (2, 200.0), (3, 300.0)]
        assert board.scalars(".", "score/fid") == [(2, 12.5)]
        assert board.images(".", "samples") == [(2, png)]
        assert '"seed": 7' in html.unescape(board.texts(".", "spec")[0])
        assert "<strong>warning</strong> D wins." in board.texts(".", "alerts")[0]


def test_a_killed_run_leaves_all_that_was_flushed(tmp_path: Path) -> None:
    """Breaks when records wait in the memory of a process that may be killed."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from models.tensorboard import TensorBoardWriter\n"
        "from models.training.events import Progress\n"
        "writer = TensorBoardWriter(Path(sys.argv[1]))\n"
        "for step in range(300):\n"
        "    writer.add(Progress(step, step, 1.0, {'loss/generator': step / 8}))\n"
        "writer.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert steps(file) == list(range(300))


def test_a_copy_of_the_flushed_size_is_whole_while_the_file_grows(tmp_path: Path) -> None:
    """Breaks when a stored copy ends in half a record."""
    writer = TensorBoardWriter(tmp_path / "run")
    for step in range(50):
        writer.add(Progress(step, step, 1.0, {"loss/generator": 1.0}))
        size = writer.flush()
        writer.add(Progress(step, step, 1.0, {"loss/discriminator": 1.0}))
        copy = tmp_path / "events.out.tfevents.1"
        with writer.path.open("rb") as file:
            copy.write_bytes(file.read(size))
        assert copy.stat().st_size == size
        assert steps(copy) == [step for step in range(step + 1) for _ in range(2)][:-1]
    writer.close()


def test_a_second_run_in_the_folder_has_a_file_of_its_own(tmp_path: Path) -> None:
    first, second = TensorBoardWriter(tmp_path), TensorBoardWriter(tmp_path)
    assert first.path != second.path
    first.close()
    second.close()


def test_nothing_heavier_than_tensorboard_is_imported() -> None:
    """Breaks when TensorFlow, or torch's own writer, comes in with the file."""
    heavy = ("tensorflow", "torch.utils.tensorboard")
    probe = f"import sys, models.tensorboard; print(*(name for name in {heavy!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def steps(file: Path) -> list[int]:
    """The steps of what an event file shows: of all but its format and the mark of where it begins."""
    return [record.step for record in EventFileLoader(str(file)).Load() if record.HasField("summary")]


@pytest.mark.parametrize(("resumed", "kept"), [(0, []), (2, [1, 2])])
def test_what_an_earlier_attempt_told_of_the_same_steps_is_not_shown(
    tmp_path: Path, resumed: int, kept: list[int]
) -> None:
    """Breaks when the curves of a job that was tried twice run back and forth."""
    for began, value in ((0, 1.0), (resumed, 2.0)):
        board = TensorBoardWriter(tmp_path, began)
        for step in range(began + 1, 5):
            board.add(Progress(step, step * 8, 10.0, {"loss/generator": value}))
        board.close()
    points = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss/generator")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert [point.step for point in points if point.value == 1.0] == kept
