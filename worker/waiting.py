"""Jobs that wait for their dataset: it is asked for, and rings for them once it is prepared."""

import logging

from service.errors import NotFound
from service.records import datasets, jobs
from service.records.status import DatasetStatus, JobStatus
from worker.resources import Resources

logger = logging.getLogger(__name__)

MOST_RUNG = 1000  # the reconciler rings for the others


def ask_for_dataset(resources: Resources, job_id: str) -> None:
    """Once more, while the job's dataset is not prepared."""
    with resources.database.read() as session:
        try:
            dataset = datasets.get(session, jobs.get(session, job_id).dataset)
        except NotFound:
            return  # whoever claims the job finds out which of the two is missing
    if dataset.status == DatasetStatus.PENDING:
        logger.info("job %s waits for its dataset %s", job_id, dataset.id)
        resources.publisher.send("atelier.prepare", dataset.id)


def ring_for_jobs(resources: Resources, dataset_id: str) -> None:
    """Wake the jobs that waited for a dataset that is now prepared, or never will be."""
    with resources.database.read() as session:
        try:
            if datasets.get(session, dataset_id).status == DatasetStatus.PENDING:
                return
        except NotFound:
            return
        waiting = jobs.page(session, MOST_RUNG, dataset=dataset_id, status=JobStatus.QUEUED).items
    for job in reversed(waiting):
        resources.publisher.send("atelier.train", job.id)
