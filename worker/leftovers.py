"""What earlier attempts at a job stored, and died before a row named it."""

import re

from service.records import unwanted
from worker.resources import Resources

FOLDERS = ("checkpoints", "samples")
_OF_ATTEMPT = re.compile(r"(\d+)-")


def give_up(job_id: str, attempt: int, resources: Resources) -> None:
    """What no row names, of attempts before this one, is to be deleted; the reconciler does that."""
    if attempt == 1:
        return
    stored = {
        f"jobs/{job_id}/{folder}/{name}"
        for folder in FOLDERS
        for name in resources.artifacts.names(f"jobs/{job_id}/{folder}")
        if (of := _OF_ATTEMPT.match(name)) and int(of[1]) < attempt
    }
    with resources.database.transaction() as session:
        unwanted.add(session, *sorted(stored - unwanted.wanted(session, job_id)))
