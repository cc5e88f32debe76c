"""What one trainer has timed, the next one of its worker is told."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.records import jobs
from tests.worker.trainers import supervise
from worker.resources import Resources
from worker.settled import Settled

ASKED: dict[str, Any] = {
    "family": "gan",
    "seed": 1,
    "budget": {"steps": 4},
    "batch_size": 64,
    "generator": {"ngf": 64},
    "threads": None,
    "precision": "auto",
    "memory_format": "auto",
}
FOUND = {"threads": 2, "precision": "bf16", "memory_format": "channels_last"}


def test_its_like_is_completed() -> None:
    settled = Settled()
    assert settled.complete(ASKED) == ASKED
    settled.learn(ASKED, {**ASKED, **FOUND})
    alike = {**ASKED, "seed": 2, "budget": {"images": 9}}
    assert settled.complete(alike) == {**alike, **FOUND}
    assert settled.complete({**ASKED, **FOUND}) == {**ASKED, **FOUND}


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 32},
        {"generator": {"ngf": 32}},
        {"precision": "fp32"},
        {"threads": 1},
        {"penalties": {"r1": {}}},
    ],
    ids=lambda other: "-".join(other),
)
def test_another_network_batch_or_wish_is_not(other: dict[str, Any]) -> None:
    """Breaks when a choice that was timed for small batches is taken for large ones, or against a wish."""
    settled = Settled()
    settled.learn(ASKED, {**ASKED, **FOUND})
    assert settled.complete({**ASKED, **other}) == {**ASKED, **other}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_second_job_is_told_what_the_first_has_found(
    resources: Resources, create_job: Callable[..., str]
) -> None:
    """Breaks when each job spends the first half of its start on what its worker knows."""

    def resolved(job_id: str) -> dict[str, Any]:
        supervise(job_id, resources, threading.Event())
        with resources.database.read() as session:
            return {name: jobs.get(session, job_id).spec[name] for name in FOUND}

    first = create_job(seed=1)
    with resources.database.read() as session:
        asked = jobs.get(session, first).spec
    found = resolved(first)
    assert resources.settled.complete(asked) == {**asked, **found}

    # Nothing that a trainer finds out for itself: so the next one was told, and believed it.
    told = {**found, "precision": "fp16"}
    resources.settled.learn(asked, {**asked, **told})
    assert resolved(create_job(seed=2)) == told
