"""Starts trainers as forks of a process that has torch loaded: in hundredths of a second instead of seconds.

`ForkServer` is the worker's side. The server, `python -m worker.fork_server`, imports what trainers need and
does nothing else: it computes nothing, so that it has no threads, and CUDA does not start in it. It is forked
twice, and the one between ends at once. Its orphan then becomes the worker's own child, which the worker can
wait for and end like any other, and which the server's death does not touch.
"""

import ctypes
import gc
import importlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from service.tether import PR_SET_CHILD_SUBREAPER
from worker.process import Child, start_fresh, trainer_environment

logger = logging.getLogger(__name__)

SERVER = (sys.executable, "-m", "worker.fork_server")
AVAILABLE = sys.platform == "linux"
PATIENCE = 60.0  # seconds for a server that was just started; it then answers at once
# The last ones are what only some trainers need. They share these pages, whoever uses them.
PRELOADED = (
    "worker.trainer",
    "models.tensorboard",
    "models.training",
    "models.training.diffusion",
    "models.networks.unet",
    "models.data.augmentation",
    "torch_fidelity",
)
STDIN = 0
STDERR = 2


class ForkServer:
    """A server that runs from `start` on, and is started again when it was found dead."""

    def __init__(self, command: Sequence[str] = SERVER, patience: float = PATIENCE) -> None:
        self._command = command
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it if it does not run; it is ready some seconds later, and nobody has to wait for that."""
        with self._lock:
            self._running()

    def start_trainer(self) -> Child:
        """A trainer; in a new interpreter if the server gives none."""
        try:
            with self._lock:
                return self._fork()
        except OSError as error:
            logger.warning("no trainer from the fork server, but a new interpreter: %s", error)
            return start_fresh()

    def stop(self) -> None:
        """End the server; its trainers go on."""
        with self._lock:
            self._end()

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._end()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(self._patience)
        with theirs:
            self._process = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),  # it ends when this process does, and it reads the end of the socket
                stdout=STDERR,
                start_new_session=True,
                env=trainer_environment(),
            )
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None

    def _fork(self) -> Child:
        control = self._running()
        (stdin, to), (of, stdout), (of_errors, stderr) = os.pipe(), os.pipe(), os.pipe()
        pipes = os.fdopen(to, "wb"), os.fdopen(of, "rb"), os.fdopen(of_errors, "rb")
        try:
            with adopting_orphans():
                socket.send_fds(control, [b"fork"], [stdin, stdout, stderr])
                answer = control.recv(32)
            if not answer:
                raise ConnectionResetError("it has ended")
            return Fork(int(answer), *pipes)
        except OSError:
            for pipe in pipes:  # a fork that comes too late finds nobody to train for
                pipe.close()
            self._end()
            raise
        finally:
            for end in (stdin, stdout, stderr):
                os.close(end)


class Fork:
    """A trainer that the server has forked and this process has adopted."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = stdout
        self.stderr: IO[bytes] | None = stderr

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Inside, the orphans of this process's descendants become its children."""
    set_subreaper(1)
    try:
        yield
    finally:
        set_subreaper(0)


def set_subreaper(flag: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot adopt its descendants")


def main() -> int:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is never collected stays shared: a collection writes into every object
    pipes = serve(socket.socket(fileno=os.dup(STDIN)))
    if pipes is None:
        return 0
    from worker import trainer

    become_trainer(pipes)
    return trainer.main()


def serve(control: socket.socket) -> Sequence[int] | None:
    """Answer each request with a fork's process id.

    Returns in every fork, with its three pipes; and in the server, with None, once the worker is gone.
    """
    while True:
        _, pipes, _, _ = socket.recv_fds(control, 32, 3)
        if not pipes:
            return None
        told, tells = os.pipe()
        between = os.fork()
        if not between:
            if os.fork():
                os._exit(0)
            os.setsid()  # before the worker hears of it, and might end the group
            os.write(tells, str(os.getpid()).encode())
            for end in (told, tells, control.detach()):
                os.close(end)
            return pipes
        os.waitpid(between, 0)
        for end in (tells, *pipes):
            os.close(end)
        control.send(os.read(told, 32))
        os.close(told)


def become_trainer(pipes: Sequence[int]) -> None:
    """Take the pipes as stdin, stdout and stderr, and the name under which trainers are known."""
    for standard, pipe in enumerate(pipes):
        os.dup2(pipe, standard)
        os.close(pipe)
    set_title("worker.trainer (forked)")


def set_title(title: str) -> None:
    """Show `title` where ps, top and psutil show a command line, cut to that one's length."""
    numbers = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(numbers[45]), int(numbers[46])  # arg_start and arg_end in proc(5)
    if start:
        ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    sys.exit(main())
