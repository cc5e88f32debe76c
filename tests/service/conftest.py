"""The real embedded stack, for tests of the `atelier` command."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ATELIER = [sys.executable, "-P", "-m", "service"]
MARKER = "STACK_TEST_MARKER"
# Addresses of this machine must not go through a proxy; this one does not exist.
PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")


@dataclass
class RunningStack:
    """An `atelier up` or `atelier demo` as a user starts it: in a process group of its own."""

    folder: Path
    arguments: list[str]
    marker: str = field(default_factory=lambda: secrets.token_hex(8))

    def start(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.output = self.folder.with_suffix(".out")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*ATELIER, *self.arguments],
                env=kept | PROXIES | {MARKER: self.marker, "ATELIER_DEVICE": "cpu"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # A shell's background job ignores SIGINT, and what it starts would, too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return self.output.read_text()

    def interrupt(self) -> int:
        """Ctrl-C: SIGINT to the whole process group; returns the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(60)

    def left(self) -> list[str]:
        """Every process that it started and that still runs, however it is related to it now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                command = " ".join(process.cmdline())
                # Redis writes its title over its environment, and the title names its socket.
                if process.environ().get(MARKER) == self.marker or str(self.folder) in command:
                    found.append(f"{process.pid} {command}")
            except psutil.Error:
                continue
        return found

    def end(self) -> None:
        """Whatever the test did, nothing of it may disturb the next one."""
        if self.process.poll() is None:
            self.interrupt()
        for line in self.left():
            psutil.Process(int(line.split()[0])).kill()


def start_up(folder: Path, *options: str) -> RunningStack:
    stack = RunningStack(folder, ["up", "--data", str(folder), "--port", "0", *options])
    stack.start()
    return stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One `atelier up` for all tests that only speak with it."""
    # In addresses, in supervisord's configuration and on a console these characters mean something.
    running = start_up(tmp_path_factory.mktemp("stack") / "50 %25? [red]")
    try:
        running.wait_for("Ctrl-C stops it.")
        yield running
    finally:
        running.end()
