"""`python -m models train`: what is wrong is said in a line, and what is written can be trained by again."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util
from typer.testing import CliRunner, Result

from models.__main__ import app, scores_line

TINY: dict[str, Any] = {
    "preset": "dcgan",
    "budget": {"steps": 2},
    "batch_size": 8,
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "evaluation": None,
    "threads": 1,
}


def train(folder: Path, spec: object, *options: str) -> Result:
    file = folder / "spec.json"
    file.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    return CliRunner().invoke(app, ["train", str(file), "--out", str(folder / "out"), *options])


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ([], (), "must be a JSON object"),
        (None, (), "must be a JSON object"),
        ("{", (), "spec.json"),
        (TINY | {"batch_size": "x", "bogus": 1}, (), "batch_size: Input should be a valid integer; bogus: "),
        (TINY, ("--data", "/nowhere"), "/nowhere"),
        (TINY, ("--device", "gpu"), "There is no device 'gpu'"),
        (TINY, ("--device", "cuda:99"), "There is no device 'cuda:99'"),
        (TINY, ("--inception", "/nowhere"), "--inception"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, spec: object, options: tuple[str, ...], said: str
) -> None:
    """The first mistake of a stranger must not end in a traceback."""
    done = train(tmp_path, spec, *options)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_a_run_can_be_repeated_from_what_it_wrote(tmp_path: Path) -> None:
    first = train(tmp_path, TINY)
    assert first.exit_code == 0, first.output
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("started", "finished")
    again = tmp_path / "again"
    again.mkdir()
    assert train(again, (tmp_path / "out" / "spec.json").read_text()).exit_code == 0
    weights = "out/checkpoints/00000002/checkpoint.safetensors"
    assert (tmp_path / weights).read_bytes() == (again / weights).read_bytes()


def test_a_run_starts_from_the_file_of_another(tmp_path: Path) -> None:
    """Breaks when the file is not handed on, or one of other networks ends in a traceback."""
    first = tmp_path / "first"
    first.mkdir()
    assert train(first, TINY).exit_code == 0
    file = str(first / "out" / "checkpoints" / "00000002" / "checkpoint.safetensors")
    done = train(tmp_path, TINY | {"init_from": file})
    assert done.exit_code == 0, done.output
    for spec, said in (
        (TINY | {"init_from": file, "generator": {"ngf": 8}}, "generator.ngf"),
        (TINY | {"init_from": str(tmp_path / "none")}, "cannot be read"),
    ):
        refused = train(tmp_path, spec)
        assert refused.exit_code == 2, refused.output
        assert said in refused.stderr


SCORED = TINY | {
    "seed": 1,
    "precision": "fp32",
    "memory_format": "contiguous",
    "budget": {"steps": 4},
    "evaluation": {"every_steps": 2, "samples": 70, "scores": ["fid", "precision_recall"]},
}


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "events.jsonl").read_text().splitlines()]


def test_scores_are_shown_as_they_come_and_their_classifier_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a run hides its scores until its end, or each run trains a classifier of its own."""
    monkeypatch.setenv("ATELIER_CACHE", str(tmp_path / "cache"))
    first = train(tmp_path, SCORED)
    assert first.exit_code == 0, first.output
    said = [line for line in first.stderr.splitlines() if " images: FID " in line]
    evaluations = [event for event in told(tmp_path) if event["type"] == "evaluated"]
    assert [line.partition(" images")[0] for line in said] == ["16", "32"]
    assert f"FID {evaluations[0]['scores']['score/fid']:.3g}, precision " in said[0]
    (trained,) = [event for event in told(tmp_path) if event["type"] == "classifier_trained"]
    kept = tmp_path / "cache" / "classifiers" / Path(trained["path"]).name
    assert kept.read_bytes() == (tmp_path / "out" / trained["path"]).read_bytes()

    again = train(tmp_path, SCORED)
    assert again.exit_code == 0, again.output
    assert "classifier_trained" not in [event["type"] for event in told(tmp_path)]
    assert [event["scores"] for event in told(tmp_path) if event["type"] == "evaluated"] == [
        event["scores"] for event in evaluations
    ]


def test_a_run_leaves_one_tensorboard_file_with_its_metrics(tmp_path: Path) -> None:
    """Breaks when curves are missing from TensorBoard, or those of an earlier run are among them."""
    for _ in range(2):
        assert train(tmp_path, TINY).exit_code == 0
    (file,) = (tmp_path / "out" / "tensorboard").iterdir()
    last = [event for event in told(tmp_path) if event["type"] == "progress"][-1]
    written = {
        value.tag: tensor_util.make_ndarray(value.tensor).item()
        for record in EventFileLoader(str(file)).Load()
        if record.step == last["step"]
        for value in record.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    }
    expected = last["metrics"] | {"rate/images_per_second": last["images_per_second"]}
    assert written == pytest.approx(expected, rel=1e-6)


def test_scores_of_a_line() -> None:
    assert scores_line({"score/recall": 0.5, "score/fid": 123.456, "evaluation/output_trained": 1.0}) == (
        "FID 123, recall 0.5"
    )
    assert scores_line({"evaluation/output_trained": 1.0}) == ""
