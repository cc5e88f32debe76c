"""Where an attempt starts: at the newest checkpoint of the job that is whole, or anew."""

import logging
from pathlib import Path
from typing import NamedTuple

from models import checkpoint_folders
from service.errors import NotFound
from service.records import checkpoints
from worker.resources import Resources

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """Behind which step an attempt goes on, and the checkpoint's folder on this machine."""

    step: int
    images: int
    folder: Path | None


ANEW = Start(0, 0, None)


def start_of(job_id: str, resources: Resources) -> Start:
    """A checkpoint that is damaged, or lacks what a run needs to go on, is passed over for the one before."""
    with resources.database.read() as session:
        stored = [(row.step, row.images, row.artifact) for row in checkpoints.latest_first(session, job_id)]
    for step, images, artifact in stored:
        try:
            folder = resources.artifacts.local_folder(artifact.rpartition("/")[0])
        except NotFound:
            logger.warning("job %s: the files of its checkpoint at step %d are gone", job_id, step)
            continue
        if checkpoint_folders.is_intact(folder):
            return Start(step, images, folder)
        logger.warning("job %s: its checkpoint at step %d is damaged", job_id, step)
    return ANEW
