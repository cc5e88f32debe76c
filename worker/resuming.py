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
    """Behind which step an attempt goes on, the checkpoint's folder on this machine, and what it passed over.

    `damaged` are the steps of checkpoints that the job should have gone on from.
    """

    step: int
    images: int
    folder: Path | None
    damaged: tuple[int, ...] = ()


def start_of(job_id: str, resources: Resources) -> Start:
    """A checkpoint that is damaged, or lacks what a run needs to go on, is passed over for the one before."""
    with resources.database.read() as session:
        rows = checkpoints.latest_first(session, job_id)
        # The files of a state that was given up may go at any moment.
        stored = [(row.step, row.images, row.artifact) for row in rows if row.state_bytes is not None]
    damaged: list[int] = []
    for step, images, artifact in stored:
        try:
            folder = resources.artifacts.local_folder(artifact.rpartition("/")[0])
        except NotFound:
            logger.warning("job %s: the files of its checkpoint at step %d are gone", job_id, step)
            damaged.append(step)
            continue
        if checkpoint_folders.is_intact(folder):
            return Start(step, images, folder, tuple(damaged))
        logger.warning("job %s: its checkpoint at step %d is damaged", job_id, step)
        damaged.append(step)
    return Start(0, 0, None, tuple(damaged))
