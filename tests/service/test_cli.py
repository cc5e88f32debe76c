"""The `atelier` command: what it says, where it connects, and how it speaks with a running service."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from service.cli import app
from service.client import Client, Refused, locate, refusal
from service.commands import demo
from service.commands import stack as stack_commands
from service.commands.output import duration, steps
from service.commands.progress import describe
from tests.conftest import TINY
from tests.service.conftest import ATELIER, PROXIES, RunningStack

Atelier = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def atelier(stack: RunningStack, tmp_path: Path) -> Atelier:
    """Runs the real command against the real stack, in an empty folder."""

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ATELIER, *arguments],
            cwd=tmp_path,
            env=os.environ | PROXIES | {"ATELIER_DATA": str(stack.folder)},
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def speaking_with(service: Callable[[httpx.Request], httpx.Response]) -> Client:
    """A client whose service is a function."""
    client = Client("http://other", None)
    client._http = httpx.Client(base_url="http://other", transport=httpx.MockTransport(service))
    return client


def reply(atelier: Atelier, *arguments: str, text: str = "") -> Any:
    done = atelier(*arguments, "--json", text=text)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_names_every_command() -> None:
    """A command that is not registered would be found by nobody."""
    shown = CliRunner().invoke(app, ["--help"]).stdout
    parts = ("up", "demo", "api", "worker", "reconcile", "migrate", "keys")
    for command in (*parts, "jobs", "datasets", "images", "checkpoints", "evaluate", "presets"):
        assert command in shown


def test_a_picture_of_a_kind_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Breaks when `--out cat.bmp` makes a folder of that name."""
    refused = CliRunner().invoke(app, ["images", "ckpt_1", "--out", str(tmp_path / "cat.bmp")])
    assert refused.exit_code == 2
    assert "none that can be made" in " ".join(refused.stderr.replace("│", " ").split())
    assert not (tmp_path / "cat.bmp").exists()


@pytest.mark.slow
def test_a_job_from_its_spec_to_pictures(atelier: Atelier, tmp_path: Path) -> None:
    """The client's whole path: submit, watch, look, and make images, against the real service."""
    spec = TINY | {"conditional": {}, "evaluation": {"scores": ["kid"], "samples": 8}}
    watched = atelier("jobs", "submit", "-", "--watch", text=json.dumps(spec))
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "step 4/4" in watched.stdout
    (job, *_) = reply(atelier, "jobs", "list", "--limit", "1")
    assert job["status"] == "succeeded"
    assert job["id"] in atelier("jobs", "list").stdout
    assert "job.succeeded" in atelier("jobs", "events", job["id"]).stdout
    assert reply(atelier, "jobs", "show", job["id"])["best_checkpoint"] == job["best_checkpoint"]
    for checkpoint, out in ((job["id"], "grid.png"), (job["best_checkpoint"], "grid.webp")):
        assert atelier("images", checkpoint, "--n", "4", "--out", out).returncode == 0
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "grid.webp").read_bytes()[8:12] == b"WEBP"
    atelier("images", job["id"], "--n", "2", "--seed", "7", "--label", "3", "--out", "each")
    assert sorted(file.name for file in (tmp_path / "each").iterdir()) == ["7.png", "8.png"]
    asked = ("--to", "9", "--n", "3", "--truncation", "0.5", "--label", "3", "--milliseconds", "50")
    for out in ("walk.gif", "walk.webp", "walk.npz", "walk"):
        made = atelier("images", job["id"], *asked, "--out", out)
        assert made.returncode == 0, made.stderr
    assert (tmp_path / "walk.gif").read_bytes().startswith(b"GIF89a")
    assert b"ANIM" in (tmp_path / "walk.webp").read_bytes()
    assert (tmp_path / "walk.npz").read_bytes().startswith(b"PK")
    assert len(list((tmp_path / "walk").iterdir())) == 3
    flags = ("--columns", "4", "--padding", "0", "--no-metadata", "--out", "row.png")
    assert atelier("images", job["id"], "--n", "4", *flags).returncode == 0
    assert (tmp_path / "row.png").read_bytes()[16:24] == bytes([0, 0, 0, 64, 0, 0, 0, 16])
    varied = atelier("images", job["id"], "--init", "row.png", "--strength", "0.5", "--steps", "5")
    assert "init_image: holds for diffusion models alone" in varied.stderr
    listed = atelier("checkpoints", job["id"]).stdout
    assert job["best_checkpoint"] in listed
    assert " kid " in listed
    measured = reply(atelier, "evaluate", job["id"], "--samples", "16", "--score", "kid", "--seed", "1")
    assert (measured["status"], set(measured["result"]["scores"])) == ("succeeded", {"kid"})
    refused = atelier("evaluate", job["id"], "--extractor", "inception", "--score", "mode_coverage")
    assert "scores.0: mode_coverage needs" in refused.stderr
    asked = atelier("evaluate", job["id"], "--no-wait")
    assert "queued" in asked.stdout + asked.stderr or "running" in asked.stdout


def test_a_dry_run_shows_the_plan_and_stores_nothing(atelier: Atelier) -> None:
    """A dry run that stored a job would train it."""
    before = reply(atelier, "jobs", "list")
    plan = reply(atelier, "jobs", "submit", "-", "--dry-run", text=json.dumps(TINY))
    assert (plan["object"], plan["steps"]) == ("job_plan", 4)
    assert reply(atelier, "jobs", "list") == before


def test_a_refusal_names_every_bad_field(atelier: Atelier) -> None:
    """An error that hides which field is wrong sends people to the logs."""
    refused = atelier("jobs", "submit", "-", text=json.dumps(TINY | {"batch_size": -1, "colour": "red"}))
    assert refused.returncode == 1
    assert "batch_size:" in refused.stderr
    assert "colour:" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    ["presets list", "presets show dcgan", "datasets list", "datasets show digits", "jobs list", "ready"],
)
def test_what_can_be_shown_is_shown(atelier: Atelier, arguments: str) -> None:
    """A reply whose shape a table does not expect ends in a traceback."""
    shown = atelier(*arguments.split())
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip()


def test_a_broken_archive_is_a_failed_dataset_with_its_reason(atelier: Atelier, tmp_path: Path) -> None:
    """An upload that failed must not look like one that worked, to people or to scripts."""
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    uploaded = atelier("datasets", "upload", "broken.zip")
    assert uploaded.returncode == 1
    assert "failed" in uploaded.stdout + uploaded.stderr


def test_a_running_job_is_cancelled(atelier: Atelier) -> None:
    """Cancel is the one command that has to work when everything else was a mistake."""
    job = reply(atelier, "jobs", "submit", "-", text=json.dumps(TINY | {"budget": {"steps": 1_000_000}}))
    assert reply(atelier, "jobs", "cancel", job["id"])["status"] in ("cancelling", "cancelled")
    ended = atelier("jobs", "watch", job["id"])
    assert ended.returncode == 1
    assert "cancelled" in ended.stdout


def test_without_a_service_it_says_how_to_get_one(tmp_path: Path) -> None:
    """The first thing that a stranger types must not end in a traceback."""
    with pytest.raises(Refused, match="ATELIER_URL is not set") as caught:
        locate({"ATELIER_DATA": str(tmp_path)})
    assert "atelier up" in (caught.value.hint or "")
    with Client("http://127.0.0.1:9", None) as client, pytest.raises(Refused, match="does not answer"):
        client.get("/v1/jobs")


@pytest.mark.parametrize("url", ["localhost:8000", "http://127.0.0.1:eighty", "http://", "http://[::1"])
def test_an_address_of_nothing_is_named(url: str) -> None:
    """A slip in ATELIER_URL must be said in a line, not in a traceback out of httpx."""
    with pytest.raises(Refused, match="is no address of a service"):
        Client(url, None)


def test_a_key_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(Refused, match="API key") as caught:
        Client("http://127.0.0.1:9", "clé")
    assert "clé" not in str(caught.value)


@pytest.mark.parametrize("part", ["api", "worker train", "worker prepare --check", "reconcile", "migrate"])
def test_a_part_with_a_wrong_setting_ends_with_its_name(part: str, tmp_path: Path) -> None:
    """A worker with a broker it cannot use would wait for ever, and a traceback hides the variable."""
    wrong = {"ATELIER_REDIS_URL": "redis:6379", "ATELIER_LOG_LEVEL": "loud", "ATELIER_DATA": str(tmp_path)}
    done = subprocess.run(
        [*ATELIER, *part.split()],
        env=os.environ | wrong,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert all(name in done.stderr for name in ("ATELIER_REDIS_URL", "ATELIER_LOG_LEVEL"))
    assert "Traceback" not in done.stderr


def test_a_database_without_tables_is_told_from_one_that_does_not_answer(tmp_path: Path) -> None:
    """Trying again in a few seconds, as for an outage, would never help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
        made = CliRunner().invoke(app, ["keys", "create"])
    assert getattr(made.exception, "code", None) == "database_not_migrated"


def test_the_local_key_is_sent_to_the_local_stack_alone(tmp_path: Path) -> None:
    """A key that goes wherever ATELIER_URL points is a key given away."""
    (tmp_path / "url").write_text("http://127.0.0.1:8000\n")
    (tmp_path / "api-key").write_text("secret\n")
    here = {"ATELIER_DATA": str(tmp_path)}
    assert locate(here) == ("http://127.0.0.1:8000", "secret")
    assert locate(here | {"ATELIER_URL": "http://127.0.0.1:8000/"})[1] == "secret"
    assert locate(here | {"ATELIER_URL": "https://elsewhere.example"})[1] is None
    assert locate(here | {"ATELIER_API_KEY": "mine"})[1] == "mine"


def test_an_answer_that_is_no_problem_is_still_reported() -> None:
    """A proxy between client and service answers in HTML, or in JSON of its own."""
    assert str(refusal(httpx.Response(502, text="<h1>Bad gateway</h1>"))) == "502: <h1>Bad gateway</h1>"
    for body in ({"error": "no upstream"}, {"errors": [{"code": 7}]}, ["no upstream"]):
        answered = httpx.Response(502, json=body)
        assert str(refusal(answered)) == f"502: {answered.text}"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(301, headers={"Location": "https://elsewhere.example"}),
        httpx.Response(200, text="<h1>It works!</h1>"),
        httpx.Response(200, json=["it works"]),
    ],
    ids=["moved", "page", "list"],
)
def test_an_address_of_something_else_is_named(answer: httpx.Response) -> None:
    with (
        speaking_with(lambda _: answer) as client,
        pytest.raises(Refused, match="http://other/readyz answered"),
    ):
        client.get("/readyz")


def test_a_loss_that_is_no_number_is_left_out() -> None:
    """Whoever watches a job that diverges must not be left with a TypeError."""
    values = {"loss/generator": [1.0, None], "loss/discriminator": [2.0, 0.5], "loss/none": []}
    series = {key: {"step": [], "images": [], "value": value} for key, value in values.items()}
    with speaking_with(lambda _: httpx.Response(200, json={"series": series})) as client:
        assert client.losses("job_x") == {"discriminator": 0.5}


def test_a_worker_runs_with_every_flag_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mingling hangs when Redis restarts; with a concurrency of 2 a worker would train two jobs at once."""
    started: list[str] = []

    def record(_: str, arguments: list[str]) -> None:
        started.extend(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", record)
    CliRunner().invoke(app, ["worker", "train"])
    line = " ".join(started)
    assert "--queues train" in line
    assert "--pool threads --concurrency 1" in line
    assert "--without-mingle --without-gossip --without-heartbeat" in line


def test_counts_of_workers() -> None:
    """`--workers train=2` must not silently drop the other kinds."""
    assert stack_commands.parse_workers("train=2, sample=0") == {"train": 2, "sample": 0, "prepare": 1}
    for wrong in ("trian=1", "train", "train=-1", "train=two", "train=²"):
        with pytest.raises(typer.BadParameter, match="is not one of"):
            stack_commands.parse_workers(wrong)


def test_a_folder_of_any_name_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets mean something on a console."""
    demo.report({"progress": {"images": 1, "total_steps": 1}}, Path("[/odd]"), {"job.json": "the job"})
    assert "atelier up --data [/odd]/data" in capsys.readouterr().out


def test_progress_in_words() -> None:
    """Without a terminal these lines are all there is to see."""
    progress = {"step": 400, "total_steps": 2000, "images_per_second": 3120.4, "eta_seconds": 31.2}
    text = "step 400/2,000  3,120 images/s  ETA 0:31  generator 1.02"
    assert describe(progress, {"generator": 1.0201}) == text
    assert (duration(None), duration(59.6), duration(3725)) == ("–", "1:00", "1:02:05")
    assert (steps(progress), steps(None)) == ("400/2,000 (20%)", "–")
