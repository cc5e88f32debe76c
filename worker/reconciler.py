"""Brings back what a lost message or worker left behind, from SQL alone, every 3 s and when a job is due.

Each look is made of conditional updates, so several reconcilers may run: a row goes to one of them.
"""

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from service.artifacts import Artifacts
from service.errors import AtelierError
from service.queue import Publisher
from service.records import (
    datasets,
    endings,
    evaluations,
    idempotency,
    images,
    retention,
    suspects,
    unwanted,
    workers,
)
from service.records.database import Database
from service.settings import Settings, load_settings

logger = logging.getLogger(__name__)

EVERY = 3.0
AT_LEAST = 0.1  # seconds between two looks, however many jobs are due or files are to go


class Cleaned(NamedTuple):
    """How many bytes of checkpoints have to stay beyond the limit, and whether more can go at once."""

    over: int
    more: bool


def reconcile(database: Database, publisher: Publisher) -> int:
    """Look once, and publish what waits; returns how many messages were due."""
    with database.transaction() as session:
        expired = endings.expire(session)
    # What did expire waits again with a fresh time of publication, so it is not among the stale ones too.
    with database.transaction() as session:
        queued = endings.stale_queued(session)
        pending = datasets.stale(session)
        silent = images.stale(session)
        unmeasured = evaluations.stale(session)
        unsuspected = suspects.stale(session)
        idempotency.forget(session)
        workers.forget(session)
    for job_id in expired:
        logger.warning("job %s: its lease ran out; it is queued again", job_id)
        publisher.send("atelier.train", job_id)
    # One ring for images: the worker that answers it makes all that is queued.
    stale = {
        "atelier.train": queued,
        "atelier.prepare": pending,
        "atelier.sample": silent[:1],
        "atelier.evaluate": unmeasured,
        "atelier.suspect": unsuspected,
    }
    return len(expired) + _publish_again(publisher, stale)


def pause(database: Database) -> float:
    """Seconds until the next look: no job waits for it that is due, its lease run out or its backoff over."""
    with database.read() as session:
        left = endings.next_due(session)
    return EVERY if left is None else min(max(left, AT_LEAST), EVERY)


def clean(
    database: Database,
    artifacts: Artifacts,
    checkpoint_bytes: int | None,
    images_kept_seconds: float | None = None,
) -> Cleaned:
    """Delete checkpoints beyond the limit, images kept long enough, and files that were given up."""
    with database.transaction() as session:
        if images_kept_seconds is not None:
            images.expire(session, images_kept_seconds)
        over = retention.fit(session, checkpoint_bytes)
        prefixes = unwanted.oldest(session)
    for prefix in prefixes:
        artifacts.delete(prefix)
    if prefixes:
        with database.transaction() as session:
            unwanted.forget(session, prefixes)
    return Cleaned(over, more=len(prefixes) == unwanted.AT_ONCE)


def _publish_again(publisher: Publisher, stale: Mapping[str, Sequence[str]]) -> int:
    """Publish ids whose message may be lost, unless messages wait for the same workers, who are then busy.

    A run of a day would otherwise leave thousands of messages for every job that waits behind it.
    """
    # All are asked before the first is sent: two tasks of one queue must not hide each other.
    idle = [task for task, ids in stale.items() if ids and publisher.idle(task)]
    for task in idle:
        for id_ in stale[task]:
            publisher.send(task, id_)
    return sum(len(stale[task]) for task in idle)


def run(settings: Settings, stopping: threading.Event) -> None:
    """Look again and again until told to stop; an outage of the database costs a look, and no more."""
    database, publisher = Database(settings.database_url), Publisher(settings.redis_url)
    artifacts, over = Artifacts(settings.artifacts_url), 0
    limits = settings.checkpoint_bytes, settings.images_kept_seconds
    logger.info("the reconciler runs")
    while not stopping.is_set():
        seconds = EVERY
        try:
            if due := reconcile(database, publisher):
                logger.info("%d messages were published again", due)
            before, (over, more) = over, clean(database, artifacts, *limits)
            if over > before:
                logger.warning("checkpoints that have to stay are %d bytes over the limit", over)
            seconds = AT_LEAST if more else pause(database)
        except AtelierError as error:
            logger.warning("this look was skipped: %s", error)
        except Exception:
            logger.exception("this look failed")
        stopping.wait(seconds)
    publisher.close()
    database.close()
    logger.info("the reconciler has stopped")


def main() -> None:
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    run(settings, stopping)


if __name__ == "__main__":
    main()
