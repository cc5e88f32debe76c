"""A database that dies over and over, or stays away for longer than a lease holds."""

import itertools
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.deployment import Deployment, wait_for
from tests.chaos.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEEDS = (1, 2)
LEASE = 15.0


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment("postgresql") as started:
        yield started


def running(ledger: Ledger, job_id: str) -> Callable[[], bool]:
    def look() -> bool:
        job = ledger.job(job_id)
        return job is not None and job["status"] == "running" and job["progress"]["step"] > 0

    return look


def test_a_database_that_is_killed_every_few_seconds_for_a_minute(
    deployment: Deployment, tell: Callable[[float], None]
) -> None:
    """Breaks when a job is lost, finishes twice, or has other weights than one that nothing disturbed."""
    ledger, chance, seeds = Ledger(deployment.client), random.Random(3), itertools.cycle(SEEDS)
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        for _ in range(2 - len(ledger.open_jobs())):
            ledger.submit(next(seeds))
        time.sleep(chance.uniform(5, 10))
        deployment.kill("postgresql")
        deployment.start("postgresql")
        wait_for(deployment.ready, "ready after PostgreSQL was killed", 90)
    began = time.monotonic()
    wait_for(lambda: not ledger.open_jobs(), "the disturbed jobs end", 300)
    tell(time.monotonic() - began)
    for seed in SEEDS:
        ledger.submit(seed)
    ledger.wait(300)
    assert ledger.check() == []


def test_a_database_that_is_away_for_longer_than_the_lease(
    deployment: Deployment, tell: Callable[[float], None]
) -> None:
    """Breaks when a worker commits what it held although its lease is gone, or when nobody goes on."""
    ledger = Ledger(deployment.client)
    job_id = ledger.submit(1)
    wait_for(running(ledger, job_id), "the job trains", 120)
    deployment.kill("postgresql")
    time.sleep(LEASE + 10)
    deployment.start("postgresql")
    began = time.monotonic()
    ledger.wait(300)
    tell(time.monotonic() - began)
    ledger.submit(1)
    ledger.wait(300)
    assert ledger.check() == []
