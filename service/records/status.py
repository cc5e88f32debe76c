"""The states of jobs, datasets and requests, and the moves between them that are allowed."""

from collections.abc import Mapping
from enum import StrEnum


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DatasetStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class RequestStatus(StrEnum):
    """Of images and evaluations that are asked of a checkpoint."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Of a request: nothing more happens to it.
OVER = frozenset({RequestStatus.SUCCEEDED, RequestStatus.FAILED, RequestStatus.CANCELLED})

MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.QUEUED, JobStatus.PAUSING, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),
    JobStatus.PAUSING: frozenset(
        {JobStatus.PAUSED, JobStatus.QUEUED, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.CANCELLING: frozenset({JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
}

# A worker holds the job: it has a lease, and its attempt's writes are accepted.
HELD = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING})
# Nothing more happens to the job unless it is resumed.
TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


def allowed(before: JobStatus, after: JobStatus) -> bool:
    return after in MOVES[before]


def sources(after: JobStatus) -> frozenset[JobStatus]:
    """The states from which a job may move to `after`."""
    return frozenset(before for before in JobStatus if allowed(before, after))
