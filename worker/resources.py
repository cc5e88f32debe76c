"""What every task needs and a process opens once: settings, database, artifacts, publisher."""

from dataclasses import dataclass

from service.artifacts import Artifacts
from service.queue import Publisher
from service.records.database import Database
from service.settings import Settings


@dataclass(frozen=True)
class Resources:
    """Opened by the entry points (the Celery application, the reconciler) and handed to everything else."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    publisher: Publisher


def open_resources(settings: Settings) -> Resources:
    return Resources(
        settings=settings,
        database=Database(settings.database_url),
        artifacts=Artifacts(settings.artifacts_url, settings.data / "cache"),
        publisher=Publisher(settings.redis_url),
    )
