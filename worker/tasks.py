"""The tasks of the three queues; each imports what it needs, so a training worker never imports torch."""

import functools
import threading
from typing import TYPE_CHECKING, Any

from celery.signals import celeryd_after_setup, worker_shutting_down

from worker.app import app, settings
from worker.resources import Resources, open_resources

if TYPE_CHECKING:
    from worker.fork_server import ForkServer
    from worker.sampling import Sampler
    from worker.seat import Seat

stopping = threading.Event()


@functools.cache
def resources() -> Resources:
    return open_resources(settings)


@functools.cache
def sampler() -> "Sampler":
    from worker.sampling import Sampler

    return Sampler(resources(), stopping)


@functools.cache
def fork_server() -> "ForkServer | None":
    from worker.fork_server import AVAILABLE, ForkServer

    return ForkServer() if AVAILABLE and settings.preload else None


@functools.cache
def seat() -> "Seat":
    from worker.process import start_fresh
    from worker.seat import Seat

    server = fork_server()
    return Seat(resources(), stopping, server.start_trainer if server else start_fresh)


def train(job_id: str) -> None:
    seat().train(job_id)


def sample(image_id: str) -> None:
    """Whichever images are queued are made; for rings that `worker.doorbell` did not hear."""
    sampler().hear()


def describe(spec: dict[str, Any], reply_to: str) -> None:
    from worker.answering import answer_describe

    answer_describe(resources(), spec, reply_to)


def export(checkpoint_id: str, exported: str, reply_to: str) -> None:
    from worker.answering import answer_export

    answer_export(resources(), checkpoint_id, exported, reply_to)


def prepare(dataset_id: str) -> None:
    from worker import preparing, waiting

    preparing.prepare(dataset_id, resources())
    waiting.ring_for_jobs(resources(), dataset_id)
    if resources().publisher.idle("atelier.suspect"):  # it would give way; the reconciler rings for it later
        resources().publisher.send("atelier.suspect", dataset_id)


def suspect(dataset_id: str) -> None:
    from worker import suspecting

    suspecting.suspect(dataset_id, resources(), stopping)


def evaluate(evaluation_id: str) -> None:
    """A doorbell: the evaluation that has waited longest is measured, be it this or another one."""
    from worker import evaluating

    evaluating.evaluate(resources())


for task in (train, sample, describe, export, prepare, suspect, evaluate):
    app.task(name=f"atelier.{task.__name__}")(task)


def stop_trainers(**_: object) -> None:
    """The first SIGTERM lets tasks end by themselves; a training is told to, or it would take its hours."""
    stopping.set()


def warm() -> list[dict[str, Any]]:
    sampler().forget_deleted()
    return sampler().warm.told()


def preload(instance: Any, **_: object) -> None:
    """What takes seconds is done before the first message: that one is then answered in time."""
    from worker import presence

    queues = instance.app.amqp.queues.consume_from
    if "sample" in queues:
        from worker import answering, doorbell

        answering.warm_up()
        sampler().serve()
        doorbell.answer(settings.redis_url, sampler().hear, stopping)
    if "train" in queues:
        seat().look()
        if server := fork_server():
            server.start()
    presence.start(resources(), queues, stopping, warm if "sample" in queues else list)


worker_shutting_down.connect(stop_trainers)
celeryd_after_setup.connect(preload)
