"""Jobs supervised as a worker does it: trainers are forks of one server, which ends with the test run."""

import contextlib
import threading

import psutil

from worker import supervisor
from worker.fork_server import AVAILABLE, ForkServer
from worker.process import start_fresh
from worker.resources import Resources
from worker.supervisor import StartTrainer

start_trainer: StartTrainer = ForkServer().start_trainer if AVAILABLE else start_fresh


def trainers(of: int | None = None) -> list[psutil.Process]:
    """The trainers of a process, or of this one."""
    return children_named("worker.trainer", of)


def children_named(name: str, of: int | None = None) -> list[psutil.Process]:
    """What a process, or this one, has started, with this name in its command; it may end meanwhile."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if name in " ".join(child.cmdline()):
                found.append(child)
    return found


def supervise(
    job_id: str, resources: Resources, stopping: threading.Event, start: StartTrainer = start_trainer
) -> None:
    supervisor.supervise(job_id, resources, stopping, start)
