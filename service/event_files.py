"""Where the TensorBoard event files of a job are stored: one an attempt, which grows while it runs."""

from service.artifacts import Artifacts


def event_file_key(job_id: str, attempt: int) -> str:
    """The artifact of an attempt's file; TensorBoard reads a folder's files in the order of their names."""
    return f"jobs/{job_id}/tensorboard/events.out.tfevents.{attempt:06d}"


def stored_event_files(artifacts: Artifacts, job_id: str, attempts: int) -> list[str]:
    """The artifacts that a job of so many attempts has, oldest first."""
    keys = (event_file_key(job_id, attempt) for attempt in range(1, attempts + 1))
    return [key for key in keys if artifacts.exists(key)]
