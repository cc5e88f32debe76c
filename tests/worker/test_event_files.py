"""The TensorBoard file of an attempt on its way from the trainer to the artifacts."""

from pathlib import Path

import pytest

from service.artifacts import Artifacts
from service.event_files import event_file_key, stored_event_files
from worker.recorder import Assignment, Recorder

JOB = "job_01jc0000000000000000000000"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_attempt_has_one_file_which_is_replaced_by_a_longer_one(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """Breaks when the file is taken from the trainer that writes it, or a half-written record is stored."""
    file = tmp_path / "tensorboard" / "events.out.tfevents.17.host"
    file.parent.mkdir()
    for attempt, content in ((1, b"one"), (1, b"one two"), (2, b"three")):
        file.write_bytes(content + b"half")
        logged = {"type": "logged", "path": "tensorboard/events.out.tfevents.17.host"}
        recorder = Recorder(artifacts, Assignment(JOB, attempt, {}, "digits"), tmp_path)
        recorder.add({**logged, "size_bytes": len(content)})
        assert file.is_file()
    stored = stored_event_files(artifacts, JOB, attempts=3)
    assert [artifacts.read(key) for key in stored] == [b"one two", b"three"]
    assert stored == sorted(stored) == [event_file_key(JOB, 1), event_file_key(JOB, 2)]


def test_names_are_in_the_order_of_the_attempts() -> None:
    """TensorBoard reads a folder's files by name: attempt 10 must not come before attempt 9."""
    assert event_file_key(JOB, 9) < event_file_key(JOB, 10)
