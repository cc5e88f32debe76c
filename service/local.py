"""The embedded stack behind `atelier up`: Redis, API, workers and reconciler of one data folder."""

import os
import shutil
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx

from service import tether
from service.embedded_redis import redis_configuration, redis_server
from service.folder import LocalError, ensure_key, lock_folder, socket_folder, write_whole
from service.installation import install
from service.interruption import Interruption
from service.settings import PREFIX, database_in, load_settings
from service.supervision import Program, Supervisor, configuration

READY_SECONDS = 120
STOP_SECONDS = 25
KINDS = ("train", "sample", "prepare")


@dataclass
class Stack:
    """The running stack of one data folder: enter to start it, leave to end it with everything it started."""

    data: Path
    interruption: Interruption
    host: str = "127.0.0.1"
    port: int = 8000
    workers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 1))

    def __post_init__(self) -> None:
        self.data = self.data.absolute()
        self.key_is_new = False
        self._supervisor: Supervisor | None = None
        self._spared = tether.children()
        self._run = self.data / "run"

    @property
    def url(self) -> str:
        return f"http://{local_address(self.host)}:{self.port}"

    @property
    def key_file(self) -> Path:
        return self.data / "api-key"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.data)
        try:
            self._run = socket_folder(self._run)
            self._start()
        except OSError as error:
            self._end()
            message = f"{error.filename or self.data} cannot be used: {error.strerror}"
            raise LocalError(
                "bad_folder", message, "Give a folder that can be written in: --data DIR."
            ) from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end()

    def watch(self) -> None:
        """Return never; raise Interrupted when asked to stop, LocalError when supervisord is gone."""
        while True:
            self.interruption.sleep(0.5)
            if self._supervisor and not self._supervisor.alive():
                raise LocalError("stack_died", "supervisord ended unexpectedly", f"Look into {self.logs}.")
            if self._supervisor:
                tether.reap_orphans(spare=self._spared | {self._supervisor.pid})

    def _start(self) -> None:
        self.port = usable_port(self.host, self.port)
        self.logs.mkdir(exist_ok=True)
        own = {
            "data": str(self.data),
            "database_url": database_in(self.data),
            "redis_url": f"unix://{quote(str(self._run / 'redis.sock'))}",
            "artifacts_url": str(self.data / "artifacts"),
        }
        secret = load_settings(**own).admin_key
        given = secret.get_secret_value() if secret else None
        environ = {PREFIX + name.upper(): value for name, value in own.items()}
        install(environ["ATELIER_DATABASE_URL"], given)
        self.interruption.check()
        self.key_is_new = ensure_key(environ["ATELIER_DATABASE_URL"], self.key_file, given)
        self.interruption.check()
        control = self._run / "supervisor.sock"
        configured = self.data / "run" / "supervisord.conf"
        configured.write_text(configuration(self._programs(), control=control, logs=self.logs))
        tether.adopt_orphans()
        self._supervisor = Supervisor(configured, control, environ, lock=self._lock)
        self._wait_until_ready(self._supervisor)
        write_whole(self.data / "url", self.url + "\n", mode=0o644)

    def _programs(self) -> list[Program]:
        atelier = (sys.executable, "-P", "-m", "service")
        redis = redis_configuration(self.data / "redis", self._run / "redis.sock")
        api = (*atelier, "api", "--host", self.host, "--port", str(self.port))
        return [
            Program("redis", (redis_server(), str(redis)), group="redis"),
            Program("api", api, group="atelier"),
            Program("reconcile", (*atelier, "reconcile"), group="atelier"),
            *(
                Program(name, (*atelier, "worker", kind, "--name", name), group="atelier", stop_seconds=15)
                for kind, count in self.workers.items()
                for name in (f"{kind}-{number}" for number in range(1, count + 1))
            ),
        ]

    def _wait_until_ready(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + READY_SECONDS
        last = "no answer"
        with httpx.Client(trust_env=False, timeout=2) as client:
            while time.monotonic() < deadline:
                try:
                    reply = client.get(f"{self.url}/readyz")
                    last = reply.text
                    if reply.is_success and reply.json()["status"] == "ready":
                        return
                except httpx.HTTPError as error:
                    last = str(error)
                if not supervisor.alive():
                    raise self._failure("supervisord", self.data / "run" / "supervisord.out")
                for program in supervisor.failed():
                    raise self._failure(program, self.logs / f"{program}.log")
                self.interruption.sleep(0.1)
        message = f"the service was not ready after {READY_SECONDS} s; /readyz last said: {last}"
        raise LocalError("not_ready", message, f"Look into {self.logs}.")

    def _failure(self, program: str, log: Path) -> LocalError:
        tail = log.read_text(errors="replace").splitlines()[-15:] if log.is_file() else ["(it wrote no log)"]
        return LocalError(
            "start_failed", f"{program} does not start:\n" + "\n".join(tail), f"All of it: {log}"
        )

    def _end(self) -> None:
        heard = self.interruption.requests
        if self._supervisor:
            self._supervisor.stop(seconds=STOP_SECONDS, hurried=lambda: self.interruption.requests > heard)
            tether.kill_children(spare=self._spared)
        (self.data / "url").unlink(missing_ok=True)
        if self._run != self.data / "run":
            shutil.rmtree(self._run, ignore_errors=True)
        os.close(self._lock)


def usable_port(host: str, port: int) -> int:
    """The port to listen on: a free one for 0, else the one asked for, if nobody has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error.strerror}"
            raise LocalError(
                "port_in_use", message, "Give another port, or --port 0 for any free one."
            ) from None
        return int(probe.getsockname()[1])


def local_address(host: str) -> str:
    """Where this machine reaches a service that listens on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
