"""Runs a command that cannot outlive its parent: `python -m service.tether COMMAND...`.

On Linux the kernel sends SIGTERM to the command when the process that started it dies, however it dies;
elsewhere the command only runs. TETHER_PARENT names that process, in case it died before we asked for this.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

PARENT = "TETHER_PARENT"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def tethered(*command: str) -> list[str]:
    """The command line that runs `command` under this module, with this interpreter."""
    return [sys.executable, "-P", "-m", "service.tether", *command]


def environment() -> dict[str, str]:
    """What a process that starts a tethered command itself must hand it."""
    return {PARENT: str(os.getpid())}


def adopt_orphans() -> None:
    """Make this process the parent of every orphaned descendant, so that `kill_children` finds it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """The ids of this process's children; empty where there is no /proc."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    found = set[int]()
    for listing in tasks.glob("*/children"):
        found.update(int(pid) for pid in listing.read_text().split())
    return found


def reap_orphans(*, spare: set[int]) -> None:
    """Let go of adopted children that have ended; the spared ones are waited for by whoever started them."""
    for pid in children() - spare:
        os.waitpid(pid, os.WNOHANG)


def kill_children(*, spare: set[int]) -> None:
    """SIGKILL and reap every child but the spared ones, until no orphan of theirs turns up either."""
    while doomed := children() - spare:
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        parent = os.environ.get(PARENT)
        if parent is not None and int(parent) != os.getppid():
            sys.exit(f"the process that asked for `{' '.join(sys.argv[1:])}` is gone; not starting it")
    os.environ[PARENT] = str(os.getpid())
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  (replacing this process is the point)


if __name__ == "__main__":
    main()
