"""How many jobs, datasets, image requests and evaluations there are in each state."""

from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.records.status import DatasetStatus, JobStatus, RequestStatus
from service.records.tables import Dataset, Evaluation, ImageBatch, Job

STATES: dict[str, tuple[type[Job] | type[Dataset] | type[ImageBatch] | type[Evaluation], type[StrEnum]]] = {
    "jobs": (Job, JobStatus),
    "datasets": (Dataset, DatasetStatus),
    "image_batches": (ImageBatch, RequestStatus),
    "evaluations": (Evaluation, RequestStatus),
}


def by_status(session: Session) -> dict[str, dict[str, int]]:
    """For each of `STATES` the number in every state, 0 where there is none."""
    counts = {}
    for name, (table, states) in STATES.items():
        found = session.execute(select(table.status, func.count()).group_by(table.status))
        counts[name] = {state.value: 0 for state in states} | {str(state): count for state, count in found}
    return counts
