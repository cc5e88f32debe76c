"""Takes one job from its claim to its end: its lease, its trainer process, and its record."""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from service.errors import AtelierError, Unavailable
from service.records import checkpoints, datasets, endings, jobs, leases
from service.records.status import DatasetStatus, JobStatus
from worker import classifiers, leftovers
from worker.failures import crash_error, failure
from worker.lease import Lease, Order
from worker.packed_images import packed_images
from worker.process import Child, Event, TrainerProcess
from worker.pulse import MOVES
from worker.recorder import Assignment, Recorder
from worker.resources import Resources
from worker.resuming import Start, start_of
from worker.stored_weights import weights
from worker.waiting import ask_for_dataset
from worker.watchdog import Watchdog

logger = logging.getLogger(__name__)

StartTrainer = Callable[[], Child]

GRACE = 10.0  # seconds for a trainer to save a checkpoint when it is paused or its worker shuts down
EXIT_PATIENCE = 30.0  # seconds for a trainer that said its last word to free its device and exit
RETRY_EVERY = 1.0
STORE_AGAIN = 10.0  # seconds before a job is taken again whose store did not answer

WORKER_HINT = "The worker's log has the traceback. Is there room, and permission, where files are stored?"


class Ending(StrEnum):
    """Why the supervisor stopped following its trainer."""

    EXITED = "exited"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    STOPPED = "stopped"  # this worker is shutting down
    HUNG = "hung"  # it stood still for too long
    LOST = "lost"  # the job is not this worker's any more


def supervise(job_id: str, resources: Resources, stopping: threading.Event, start: StartTrainer) -> bool:
    """Run the job that has waited longest, be it this one or another; False if none waits.

    One that was given back has rung last, and was there first.
    """
    ask_for_dataset(resources, job_id)
    return supervise_next(resources, stopping, start)


def supervise_next(resources: Resources, stopping: threading.Event, start: StartTrainer) -> bool:
    """Run the job that has waited longest; False if none waits for a worker, or this one is shutting down."""
    while not stopping.is_set():
        with resources.database.read() as session:
            oldest = jobs.longest_waiting(session)
        if oldest is None:
            return False
        if (assignment := claim(oldest, resources)) is not None:  # else another worker was quicker
            run_attempt(assignment, resources, stopping, start)
            return True
    return False


def claim(job_id: str, resources: Resources) -> Assignment | None:
    with resources.database.transaction() as session:
        job = leases.claim(session, job_id, worker_name())
        return None if job is None else Assignment(job.id, job.attempt, job.spec, job.dataset)


def run_attempt(
    assignment: Assignment, resources: Resources, stopping: threading.Event, start: StartTrainer
) -> None:
    logger.info("job %s: attempt %d starts", assignment.job_id, assignment.attempt)
    folder = resources.settings.data.resolve() / "attempts" / f"{assignment.job_id}-{assignment.attempt}"
    try:
        with Lease(resources.database, assignment.job_id, assignment.attempt) as lease:
            Attempt(assignment, resources, lease, stopping, folder).run(start)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Attempt:
    """One attempt at one job, from the trainer's start to the record's last write."""

    def __init__(
        self,
        assignment: Assignment,
        resources: Resources,
        lease: Lease,
        stopping: threading.Event,
        folder: Path,
    ) -> None:
        self._assignment = assignment
        self._resources = resources
        self._lease = lease
        self._stopping = stopping
        self._folder = folder
        self._recorder = Recorder(resources.artifacts, assignment, folder, wanted=self._is_wanted)

    def run(self, start_trainer: StartTrainer) -> None:
        trainer, assignment = None, self._assignment
        try:
            make_folder(self._folder, assignment.job_id)
            try:
                start = start_of(assignment.job_id, self._resources)
                command = self._command(start)
                if not self._persist(lambda session: self._recorder.begin(session, start)):
                    return
                leftovers.give_up(assignment.job_id, assignment.attempt, self._resources)
            except Unavailable as error:
                self._give_back(str(error))
                return
            trainer = TrainerProcess(command, start_trainer)
            watchdog = Watchdog(self._resources.settings.progress_timeout, start.step)
            ending = self._follow(trainer, watchdog)
            exit_status = self._end(trainer, ending)
            attempt = f"job {assignment.job_id}: attempt {assignment.attempt}"
            logger.info("%s ended: %s, exit status %d", attempt, ending, exit_status)
            crash = crash_error(exit_status, trainer.log.tail())
            self._conclude(ending, watchdog.error() if ending is Ending.HUNG else crash)
        except Exception as error:
            logger.exception("job %s: attempt %d failed", assignment.job_id, assignment.attempt)
            if trainer is not None:
                trainer.stop(GRACE)
                trainer.remaining_events()
            self._finish(JobStatus.FAILED, failure(error, code="worker_error", hint=WORKER_HINT))

    def _command(self, start: Start) -> dict[str, Any]:
        dataset_id, inception = self._assignment.dataset_id, self._resources.settings.inception
        with self._resources.database.read() as session:
            dataset = datasets.get(session, dataset_id)
            if dataset.status != DatasetStatus.READY:
                raise AtelierError(
                    "dataset_not_ready",
                    f"The dataset {dataset_id} is {dataset.status}, so there is nothing to train on.",
                    hint="GET /v1/datasets/{id} gives the reason; upload it again and create the job anew.",
                )
            init_from = None if start.folder else self._assignment.spec.get("init_from")
            stored = checkpoints.get(session, init_from) if init_from else None
        init = weights(self._resources.artifacts, stored.artifact, stored.sha256) if stored else None
        return {
            "spec": self._resources.settled.complete(self._assignment.spec),
            "dataset": str(packed_images(self._resources.artifacts, dataset_id)),
            "out": str(self._folder),
            "device": self._resources.settings.device,
            "gpu_memory": self._resources.settings.train_gpu_memory,
            "classifiers": str(classifiers.stored(self._resources.artifacts, self._folder / "classifiers")),
            "inception": None if inception is None else str(inception),
            "init": None if init is None else str(init),
            "resume": None if start.folder is None else str(start.folder),
            "step": start.step,
        }

    def _follow(self, trainer: TrainerProcess, watchdog: Watchdog) -> Ending:
        """Record events until the trainer ends, or has to be ended."""
        while True:
            if self._lease.order is Order.LOST:
                return Ending.LOST
            if self._lease.order is Order.CANCEL:
                return Ending.CANCELLED
            if self._lease.order is Order.PAUSE:
                return Ending.PAUSED
            if self._stopping.is_set():
                return Ending.STOPPED
            event = trainer.next_event(timeout=0.1)
            self._recorder.log(trainer.log.take())
            if event is not None:
                self._record(event)
                watchdog.heard(event)
            elif trainer.ended:
                return Ending.EXITED
            elif watchdog.expired:
                return Ending.HUNG
            if self._recorder.due and not self._flush():
                return Ending.LOST

    def _record(self, event: Event) -> None:
        if event["type"] == "started":
            self._resources.settled.learn(self._assignment.spec, event["spec"])
        if event["type"] != MOVES:
            self._recorder.add(event)

    def _is_wanted(self) -> bool:
        return self._lease.order is Order.GO_ON and not self._stopping.is_set()

    def _flush(self) -> bool:
        """False when the attempt is fenced out. While the database is away the rows wait."""
        try:
            with self._resources.database.transaction() as session:
                accepted = self._recorder.write(session)
        except Unavailable as error:
            logger.warning("job %s: rows wait: %s", self._assignment.job_id, error)
            return True
        if accepted:
            self._recorder.clear()
        return accepted

    def _end(self, trainer: TrainerProcess, ending: Ending) -> int:
        """The process is gone when this returns, whatever the ending was."""
        if ending is Ending.EXITED:
            exit_status = trainer.reap(patience=EXIT_PATIENCE)
        else:
            if ending is Ending.HUNG:
                trainer.tell_where_it_stands()
            exit_status = trainer.stop(GRACE if ending in (Ending.STOPPED, Ending.PAUSED) else 0)
            for event in trainer.remaining_events():
                if ending is not Ending.LOST:
                    self._record(event)
        self._recorder.log(trainer.log.rest())
        return exit_status

    def _conclude(self, ending: Ending, crash: dict[str, Any]) -> None:
        """Write how the attempt ended; `crash` is for one that says nothing of it itself."""
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        if ending is Ending.LOST:
            return
        if not self._persist(self._recorder.write):
            return
        if ending is Ending.CANCELLED:
            self._finish(JobStatus.CANCELLED)
        elif self._recorder.finished:
            self._finish(JobStatus.SUCCEEDED)
        elif ending is Ending.PAUSED:
            self._finish(JobStatus.PAUSED)
        elif ending is Ending.STOPPED:
            self._wait_again(lambda session: endings.release(session, job_id, attempt))
        elif self._recorder.error:
            self._finish(JobStatus.FAILED, self._recorder.error)
        else:
            self._wait_again(lambda session: endings.crashed(session, job_id, attempt, crash))

    def _give_back(self, reason: str) -> None:
        """What the job starts from cannot be had now, through no fault of the job."""
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        self._persist(lambda session: endings.release(session, job_id, attempt, reason, wait=STORE_AGAIN))

    def _finish(self, status: JobStatus, error: dict[str, Any] | None = None) -> None:
        job_id, attempt = self._assignment.job_id, self._assignment.attempt
        self._persist(lambda session: endings.finish(session, job_id, attempt, status, error))

    def _wait_again(self, give_back: Callable[[Session], bool]) -> None:
        """Give the job back before its lease would run out, and ring for another worker."""
        if self._persist(give_back):
            self._resources.publisher.send("atelier.train", self._assignment.job_id)

    def _persist(self, write: Callable[[Session], bool]) -> bool:
        """Write, again and again while the database is away and the lease holds; False if refused or lost."""
        while self._lease.order is not Order.LOST:
            try:
                with self._resources.database.transaction() as session:
                    accepted = write(session)
            except Unavailable as error:
                logger.warning("job %s: %s", self._assignment.job_id, error)
                time.sleep(RETRY_EVERY)
            else:
                if not accepted:
                    logger.warning("job %s: a write was refused", self._assignment.job_id)
                return accepted
        return False


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def make_folder(folder: Path, job_id: str) -> None:
    """Make an empty folder for an attempt's files; what killed attempts at the job left is removed."""
    for left in folder.parent.glob(f"{job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True)
