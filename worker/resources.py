"""What every task needs and a process opens once: settings, database, artifacts, publisher."""

from dataclasses import dataclass, field

from service.artifacts import Artifacts
from service.queue import Publisher
from service.records.database import Database
from service.settings import Settings
from worker.settled import Settled


@dataclass(frozen=True)
class Resources:
    """Opened by the entry points (the Celery application, the reconciler) and handed to everything else."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    publisher: Publisher
    settled: Settled = field(default_factory=Settled)


def open_resources(settings: Settings) -> Resources:
    return Resources(
        settings=settings,
        database=Database(settings.database_url),
        artifacts=Artifacts(settings.artifacts_url, settings.data / "cache"),
        publisher=Publisher(settings.redis_url),
    )
