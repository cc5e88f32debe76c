"""The images and the compose file, as far as they can be checked where there is no container engine."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from service.cli import app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def parse(arguments: list[str]) -> None:
    """Parse a command line of `atelier` down to its last option, and run nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("atelier", list(arguments))
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, context._protected_args + context.args)
        context = command.make_context("atelier", rest, parent=context)


def test_the_compose_file_is_valid() -> None:
    """A misspelt key, which compose would refuse on the server, fails here."""
    checker = Path(sys.executable).parent / "check-jsonschema"
    command = [checker, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_that_atelier_has(name: str) -> None:
    """A service whose command or health check was renamed in the CLI would restart for ever."""
    parse(OURS[name]["command"])
    check = OURS[name].get("healthcheck", {}).get("test")
    if check:
        assert check[:2] == ["CMD", "atelier"]
        parse(check[2:])


def test_a_command_that_atelier_has_not_is_noticed() -> None:
    """The test above would be worthless if `parse` let everything through."""
    with pytest.raises(Exception, match="No such option"):
        parse(["worker", "train", "--threads", "3"])


@pytest.mark.parametrize(
    "line", re.findall(r"^(?:CMD|HEALTHCHECK .*CMD) (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
)
def test_the_images_start_and_check_themselves_by_commands_that_atelier_has(line: str) -> None:
    """An image whose default command does not parse would not start."""
    arguments = yaml.safe_load(line)
    parse(arguments[1:] if arguments[0] == "atelier" else arguments)


def test_every_part_runs_once_and_workers_of_each_kind_do() -> None:
    """A deployment without, say, the reconciler would lose jobs in silence."""
    always = [service["command"][:2] for service in OURS.values() if "profiles" not in service]
    assert sorted(command[0] for command in always if command[0] != "worker") == [
        "api",
        "migrate",
        "reconcile",
    ]
    assert sorted(command[1] for command in always if command[0] == "worker") == [
        "prepare",
        "sample",
        "train",
    ]


def test_every_variable_is_a_setting() -> None:
    """A variable that the service does not read is a setting that silently does nothing."""
    known = {f"ATELIER_{name.upper()}" for name in Settings.model_fields}
    for service in OURS.values():
        assert set(service["environment"]) <= known


def test_redis_keeps_its_queue_behind_a_password_and_is_not_published() -> None:
    """Redis without a password, or reachable from outside, lets anyone queue work."""
    command = " ".join(SERVICES["redis"]["command"])
    assert "--requirepass ${REDIS_PASSWORD:?" in command
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]


def test_no_secret_has_a_default() -> None:
    """`${PASSWORD:-something}` would start in production with a password that everyone knows."""
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)(:?[?-])", text))
    assert {name for name, kind in used if kind == ":?"} >= {
        "REDIS_PASSWORD",
        "POSTGRES_PASSWORD",
        "ATELIER_ADMIN_KEY",
    }
    assert {name for name, kind in used if kind != ":?"} == {"ATELIER_PUBLISH"}
    example = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line
    )
    assert set(example) == {name for name, _ in used}
    assert [name for name, value in example.items() if value] == ["ATELIER_PUBLISH"]


def test_the_gpu_workers_ask_for_a_gpu_and_start_only_when_asked_for() -> None:
    """On a host without a GPU `docker compose up` must still work."""
    gpu = [service for service in OURS.values() if service.get("profiles") == ["gpu"]]
    assert gpu
    for service in gpu:
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def stage(name: str) -> str:
    """The instructions of one stage of the Dockerfile and of the stages it copies from or builds on."""
    stages = {
        match["name"]: match
        for match in re.finditer(
            r"^FROM (?P<base>\S+) AS (?P<name>\S+)\n(?P<body>.*?)(?=^FROM |\Z)",
            DOCKERFILE,
            re.MULTILINE | re.DOTALL,
        )
    }
    body = stages[name]["body"]
    sources = {stages[name]["base"], *re.findall(r"--from=(\S+)", body)} & set(stages)
    return body + "".join(stage(source) for source in sorted(sources))


def test_the_api_image_has_no_torch() -> None:
    """torch in the API's image would add gigabytes, and memory in every process."""
    instructions = stage("api")
    assert 'pip install --quiet ".[s3]"' in instructions
    assert not re.search(r"^[^#]*(torch|\[worker)", instructions, flags=re.MULTILINE)
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not [name for name in dependencies if re.match("torch|torchvision|diffusers|scikit-learn", name)]


@pytest.mark.parametrize("target", ["api", "worker"])
def test_the_images_do_not_run_as_root(target: str) -> None:
    """A hole in an image decoder must not be a hole in the host."""
    body = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    assert "USER atelier" in body
    assert body.index("USER atelier") < body.index("ENTRYPOINT")
    assert "HEALTHCHECK" in body


def ignored(path: str) -> bool:
    """What .dockerignore says of a path: the last matching line wins."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!").rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        above = [Path(path), *Path(path).parents]
        anywhere = pattern.removeprefix("**/")
        names = [str(parent) if anywhere == pattern else parent.name for parent in above]
        if any(fnmatch(name, anywhere) for name in names):
            verdict = not line.startswith("!")
    return verdict


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", ".venv/bin/python", "demo/data/api-key", "atelier-data/atelier.db",
     "data/api-key", "tests/conftest.py", "service/__pycache__/cli.pyc", "clients/token", "notes"],
)  # fmt: skip
def test_secrets_and_ballast_stay_out_of_the_images(path: str) -> None:
    """A `COPY` must not be able to carry a key, a database or a virtual environment into an image."""
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    ["pyproject.toml", "README.md", "service/api/app.py", "migrations/versions/0001_initial.py",
     "migrations/script.py.mako", "models/spec/gan.py", "worker/app.py"],
)  # fmt: skip
def test_what_the_images_are_made_of_gets_in(path: str) -> None:
    """An image built without its sources fails only when it starts."""
    assert not ignored(path)
