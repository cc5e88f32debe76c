"""The shape of the repository: the arrows between its parts, the size and the names of its files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "service", "worker", "migrations", "benchmarks", "tests")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MAX_LINES = 300
VAGUE = ("util", "utils", "common", "helper", "helpers", "manager", "misc")
HEAVY = ("torch", "torchvision", "diffusers", "onnx", "onnxscript", "sklearn", "celery.worker", "matplotlib")


def test_imports_follow_the_arrows() -> None:
    """An import against the design (service -> worker, models -> service, torch in the API) fails here."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "module", ["service.api.app", "service.cli", "service.queue", "service.records.database"]
)
def test_the_service_starts_without_torch(module: str) -> None:
    """An import that import-linter cannot see, such as one through a library, fails here."""
    probe = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_is_short_and_says_its_job(file: Path) -> None:
    """A file that is too long, vaguely named, or without its opening sentence fails here."""
    lines = file.read_text().splitlines()
    assert len(lines) <= MAX_LINES, f"{len(lines)} lines; split it by what its parts are for"
    assert not {file.stem, file.parent.name} & set(VAGUE), "name it after what it holds"
    assert not file.stem.startswith("base_"), "name it after what it holds"
    if lines and "versions" not in file.parts:
        assert lines[0].startswith(('"""', 'r"""')), "open it with one sentence that says its one job"


def test_the_checks_are_the_same_for_people_hooks_and_ci() -> None:
    """CI or pre-commit with a command of its own would let through what the other one refuses."""
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "entry: make check" in (ROOT / ".pre-commit-config.yaml").read_text()
