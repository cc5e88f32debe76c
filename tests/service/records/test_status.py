"""A job only ever moves as the design allows, whatever is done to it in whatever order."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from service.records import checkpoints, events, jobs
from service.records.database import Database
from service.records.leases import LEASE_SECONDS
from service.records.status import HELD, MOVES, TERMINAL, JobStatus, allowed, sources

WRITTEN_DOWN = """
queued -> running failed cancelled
running -> queued pausing cancelling succeeded failed
pausing -> paused queued cancelling succeeded failed
cancelling -> cancelled
paused -> queued cancelled
failed -> queued
cancelled -> queued
succeeded ->
"""
CRASH = {"code": "trainer_crashed", "message": "It was killed."}
TERMINAL_EVENTS = {"job.succeeded", "job.failed", "job.cancelled"}


def test_the_moves_are_those_of_the_design() -> None:
    lines = [line.split("->") for line in WRITTEN_DOWN.strip().splitlines()]
    assert {
        JobStatus(before.strip()): {JobStatus(one) for one in after.split()} for before, after in lines
    } == MOVES


@given(st.sampled_from(JobStatus), st.sampled_from(JobStatus))
def test_sources_are_the_moves_backwards(before: JobStatus, after: JobStatus) -> None:
    assert (before in sources(after)) == allowed(before, after)
    assert not allowed(before, before)


def test_every_state_can_be_reached_and_only_states_that_are_over_are_terminal() -> None:
    reached, frontier = {JobStatus.QUEUED}, [JobStatus.QUEUED]
    while frontier:
        fresh = MOVES[frontier.pop()] - reached
        reached |= fresh
        frontier += fresh
    assert reached == set(JobStatus)
    assert not HELD & TERMINAL
    assert all(MOVES[status] <= {JobStatus.QUEUED} for status in TERMINAL)


ACTIONS = (
    "claim",
    "renew",
    "report",
    "save",
    "succeed",
    "fail",
    "end cancelled",
    "end paused",
    "release",
    "crash",
    "cancel",
    "pause",
    "resume",
    "expire",
    "wait",
)


class OneJob:
    """One job in a real database, and what must hold after each thing that is done to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = datetime(2100, 1, 1, tzinfo=UTC)
        spec = {"family": "gan", "name": "one", "dataset": "digits", "seed": 1}
        with database.transaction() as session:
            self.id = jobs.create(session, spec, [], 10).id
        self.revived = 0  # times that it was over and was resumed
        self.saved = 0  # checkpoints that were accepted

    def do(self, action: str, attempt: int) -> None:
        with self.database.transaction() as session:
            before = jobs.get(session, self.id)
            status, holder, cancel = before.status, before.attempt, before.cancel_requested_at
        written = self._do(action, attempt)
        with self.database.read() as session:
            job = jobs.get(session, self.id)
            stored = len(checkpoints.latest_first(session, self.id))
            counts = Counter(event.type for event in events.page(session, self.id, 1000).items)
        assert job.status == status or allowed(status, job.status), f"{action}: {status} -> {job.status}"
        assert job.attempt == holder + (action == "claim" and written)
        self.revived += action == "resume" and written and status in TERMINAL
        if written and action not in {"claim", "cancel", "pause", "resume", "expire"}:
            assert attempt == holder, f"{action} of attempt {attempt} was written over attempt {holder}"
            assert status in HELD
        if written and action == "save":
            self.saved += 1
            assert job.failures == job.lost_leases == 0, "progress did not forgive what came before"
        assert stored == self.saved, "a checkpoint was lost, or written over by a late attempt"
        if cancel is not None and status in HELD:
            assert job.status in {JobStatus.CANCELLING, JobStatus.CANCELLED}, "a cancel request was lost"
        ended = sum(counts[kind] for kind in TERMINAL_EVENTS)
        assert ended == self.revived + (job.status in TERMINAL), "each end is told once"
        assert (job.error is None) or job.status == JobStatus.FAILED
        assert counts["job.started"] == job.attempt
        assert (job.lease_expires_at is not None) == (job.status in HELD)
        assert (job.finished_at is not None) == (job.status in TERMINAL)

    def _do(self, action: str, attempt: int) -> bool:
        if action == "wait":
            self.now += timedelta(seconds=LEASE_SECONDS * 0.6)
            return False
        endings = {
            "succeed": JobStatus.SUCCEEDED,
            "fail": JobStatus.FAILED,
            "end cancelled": JobStatus.CANCELLED,
            "end paused": JobStatus.PAUSED,
        }
        calls: dict[str, Callable[..., object]] = {
            "claim": lambda session: jobs.claim(session, self.id, "w", now=self.now),
            "renew": lambda session: jobs.renew(session, self.id, attempt, now=self.now),
            "report": lambda session: jobs.report(session, self.id, attempt, step=attempt, images=attempt),
            "save": lambda session: self._save(session, attempt),
            "release": lambda session: jobs.release(session, self.id, attempt),
            "crash": lambda session: jobs.crashed(session, self.id, attempt, CRASH, now=self.now),
            "cancel": lambda session: jobs.request_cancel(session, self.id, now=self.now),
            "pause": lambda session: jobs.request_pause(session, self.id, now=self.now),
            "resume": lambda session: jobs.request_resume(session, self.id, now=self.now),
            "expire": lambda session: jobs.expire(session, now=self.now),
        }
        try:
            with self.database.transaction() as session:
                if action in endings:
                    return jobs.finish(session, self.id, attempt, endings[action], now=self.now)
                return bool(calls[action](session))
        except jobs.Conflict:
            return False

    def _save(self, session: Session, attempt: int) -> object:
        facts = {"images": 8, "artifact": f"a/{attempt}/{self.saved}", "size_bytes": 1, "sha256": ""}
        return checkpoints.add(session, self.id, attempt=attempt, step=self.saved + 1, **facts)


@pytest.fixture(scope="module")
def one_database(migrated: Callable[[str, Path], str], tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(migrated("sqlite", tmp_path_factory.mktemp("moves")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(1, 4)), min_size=4, max_size=14))
def test_any_order_of_actions_keeps_every_promise(
    one_database: Database, done: list[tuple[str, int]]
) -> None:
    """Each action names an attempt, which may be the current one, an old one, or one that never was."""
    job = OneJob(one_database)
    for action, attempt in done:
        job.do(action, attempt)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(ACTIONS), min_size=6, max_size=20))
def test_any_order_of_actions_by_the_current_holder_keeps_every_promise(
    one_database: Database, done: list[str]
) -> None:
    job, attempt = OneJob(one_database), 1
    for action in done:
        job.do(action, attempt)
        with one_database.read() as session:
            attempt = jobs.get(session, job.id).attempt
