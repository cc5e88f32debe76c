"""The commands of the compose file, run by hand: real PostgreSQL, a Redis with a password, no supervisor."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.embedded_redis import redis_server
from service.local import usable_port
from tests.conftest import TINY
from tests.service.conftest import ATELIER

ADMIN_KEY = "an-admin-key-of-more-than-32-characters"


class Deployment:
    """Starts and asks the parts as the compose file does, all with one environment."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = os.environ | environ
        self.parts: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *arguments: str) -> None:
        with (self.folder / f"{arguments[-1]}.log").open("wb") as log:
            self.parts[arguments[-1]] = subprocess.Popen(
                [*ATELIER, *arguments], env=self.environ, stdout=log, stderr=log
            )

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ATELIER, *arguments], env=self.environ, input=text, capture_output=True, text=True, check=False
        )

    def succeeds(self, *arguments: str, within: float) -> None:
        deadline = time.monotonic() + within
        while (done := self.run(*arguments)).returncode != 0:
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.2)

    def stop(self) -> None:
        for part in self.parts.values():
            part.terminate()
        for part in self.parts.values():
            part.wait(60)


@pytest.fixture
def deployment(tmp_path: Path, database_url: str) -> Iterator[Deployment]:
    port, redis_port = usable_port("127.0.0.1", 0), usable_port("127.0.0.1", 0)
    options = "--requirepass hush --appendonly yes --appendfsync everysec --maxmemory-policy noeviction"
    redis = [redis_server(), "--port", str(redis_port), "--dir", str(tmp_path), *options.split()]
    environ = {
        "ATELIER_DATA": str(tmp_path / "data"),
        "ATELIER_DATABASE_URL": database_url,
        "ATELIER_REDIS_URL": f"redis://:hush@127.0.0.1:{redis_port}/0",
        "ATELIER_ARTIFACTS_URL": str(tmp_path / "artifacts"),
        "ATELIER_DEVICE": "cpu",
        "ATELIER_ADMIN_KEY": ADMIN_KEY,
        "ATELIER_URL": f"http://127.0.0.1:{port}",
        "ATELIER_API_KEY": ADMIN_KEY,
    }
    with ExitStack() as stack:
        server = stack.enter_context(subprocess.Popen(redis, stdout=subprocess.DEVNULL))
        stack.callback(server.terminate)
        deployed = Deployment(tmp_path, environ)
        stack.callback(deployed.stop)
        assert deployed.run("migrate").returncode == 0
        deployed.start("api", "--host", "127.0.0.1", "--port", str(port))
        deployed.start("reconcile")
        for kind in ("train", "sample", "prepare"):
            deployed.start("worker", kind)
        yield deployed


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_parts_of_a_deployment_work_together(deployment: Deployment, tmp_path: Path) -> None:
    """These commands, with PostgreSQL and a password, must make a service without `atelier up`."""
    deployment.succeeds("ready", within=60)
    for kind in ("train", "sample", "prepare"):
        deployment.succeeds("worker", kind, "--check", within=60)
    watched = deployment.run("jobs", "submit", "-", "--watch", "--json", text=json.dumps(TINY))
    assert watched.returncode == 0, watched.stderr
    picture = tmp_path / "grid.png"
    made = deployment.run("images", json.loads(watched.stdout)["id"], "--n", "4", "--out", str(picture))
    assert made.returncode == 0, made.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    secret = deployment.run("keys", "create", "another").stdout.strip()
    deployment.environ["ATELIER_API_KEY"] = secret
    assert deployment.run("jobs", "list").returncode == 0
    deployment.environ["ATELIER_API_KEY"] = "not-a-key"
    assert deployment.run("jobs", "list").returncode == 1
