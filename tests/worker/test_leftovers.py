"""Files that an attempt stored and died before it recorded them go, and no others."""

from collections.abc import Callable

import pytest

from service.records import checkpoints, leases, samples
from service.records.columns import clock
from service.records.status import JobStatus
from service.records.tables import Job
from worker import leftovers
from worker.reconciler import clean
from worker.resources import Resources

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_what_a_killed_attempt_left_is_deleted_by_the_time_the_next_one_runs(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when crashes leave files that nothing names, or what can be listed loses its files."""
    job_id = create_job()
    with resources.database.transaction() as session:
        assert leases.claim(session, job_id, "w") is not None
    stored = {
        name: f"jobs/{job_id}/{name}"
        for name in (
            *(f"checkpoints/1-{step}/checkpoint.safetensors" for step in (10, 30)),
            *(f"samples/1-{step}.png" for step in (10, 20, 30)),
            *(f"{folder}-{40}" for folder in ("checkpoints/2", "samples/2")),
            "checkpoints/of-a-stranger",
            "events/1",
        )
    }
    for key in stored.values():
        resources.artifacts.put_bytes(b"x", key)
    with resources.database.transaction() as session:
        artifact = stored["checkpoints/1-10/checkpoint.safetensors"]
        facts = {"images": 10, "size_bytes": 1, "sha256": ""}
        checkpoints.add(session, job_id, attempt=1, step=10, artifact=artifact, **facts)
        for step in (10, 20):
            artifact = stored[f"samples/1-{step}.png"]
            samples.add(session, job_id, attempt=1, step=step, images=step, artifact=artifact)
        session.query(Job).update({"status": JobStatus.QUEUED, "run_after": clock()})
        assert leases.claim(session, job_id, "another") is not None
        assert leases.begin(session, job_id, 2, step=10, images=10)

    leftovers.give_up(job_id, 2, resources)
    clean(resources.database, resources.artifacts, None)
    gone = {name for name, key in stored.items() if not resources.artifacts.exists(key)}
    assert gone == {"checkpoints/1-30/checkpoint.safetensors", "samples/1-20.png", "samples/1-30.png"}
