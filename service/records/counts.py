"""How many jobs, datasets and image requests there are in each state."""

from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.records.status import DatasetStatus, ImageStatus, JobStatus
from service.records.tables import Dataset, ImageBatch, Job

STATES: dict[str, tuple[type[Job] | type[Dataset] | type[ImageBatch], type[StrEnum]]] = {
    "jobs": (Job, JobStatus),
    "datasets": (Dataset, DatasetStatus),
    "image_batches": (ImageBatch, ImageStatus),
}


def by_status(session: Session) -> dict[str, dict[str, int]]:
    """For each of `STATES` the number in every state, 0 where there is none."""
    counts = {}
    for name, (table, states) in STATES.items():
        found = session.execute(select(table.status, func.count()).group_by(table.status))
        counts[name] = {state.value: 0 for state in states} | {str(state): count for state, count in found}
    return counts
