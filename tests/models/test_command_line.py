"""`python -m models train`: what is wrong is said in a line, and what is written can be trained by again."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.__main__ import app

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
