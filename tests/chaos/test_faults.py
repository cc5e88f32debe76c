"""Single faults, injected into a deployment that stands; each tells how long it took to recover."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.chaos.deployment import Deployment, wait_for
from tests.chaos.ledger import SPEC, Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LEASE = 15.0
ENDLESS = {**SPEC, "budget": {"steps": 1_000_000}, "checkpoints": {"every_steps": 100}}


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment("sqlite") as started:
        yield started


@pytest.fixture
def ledger(deployment: Deployment, endless: dict[str, Any]) -> Ledger:
    return Ledger(deployment.client)


def trains(ledger: Ledger, job_id: str, beyond: int = 0) -> Callable[[], bool]:
    def look() -> bool:
        job = ledger.job(job_id)
        return job is not None and job["status"] == "running" and job["progress"]["step"] > beyond

    return look


@pytest.fixture
def endless(deployment: Deployment) -> Iterator[dict[str, Any]]:
    """A job that trains for as long as the test takes."""
    job = deployment.client.post("/v1/jobs", json={**ENDLESS, "seed": 1}).json()
    wait_for(trains(Ledger(deployment.client), job["id"]), "the job trains", 90)
    yield job
    deployment.client.post(f"/v1/jobs/{job['id']}/cancel")


def test_what_was_queued_survives_an_emptied_redis(
    deployment: Deployment, ledger: Ledger, endless: dict[str, Any], tell: Callable[[float], None]
) -> None:
    """Breaks when Redis holds more than doorbells: 30 jobs, FLUSHALL, and every one of them must end."""
    for seed in range(30):
        ledger.submit(seed % 3)
    with redis.Redis(unix_socket_path=str(deployment.folder / "redis.sock")) as client:
        client.flushall()
    deployment.client.post(f"/v1/jobs/{endless['id']}/cancel")
    began = time.monotonic()
    wait_for(lambda: len(ledger.open_jobs()) < 30, "the first of them ends", 120)
    tell(time.monotonic() - began)
    ledger.wait(240)
    assert ledger.check() == []


@pytest.mark.parametrize("how", ["cut", "blackhole"])
def test_without_redis_jobs_are_taken_and_training_goes_on(
    deployment: Deployment,
    ledger: Ledger,
    endless: dict[str, Any],
    tell: Callable[[float], None],
    how: str,
) -> None:
    """Breaks when a POST hangs or fails without Redis, or when a blip of it ends days of training."""
    getattr(deployment.redis, how)()
    began = time.monotonic()
    job_id = ledger.submit(1, patience=20)
    assert time.monotonic() - began < 15
    before = ledger.job(endless["id"])
    assert before is not None
    wait_for(trains(ledger, endless["id"], before["progress"]["step"]), "it goes on without Redis", 30)
    time.sleep(10)
    deployment.redis.restore()
    began = time.monotonic()
    wait_for(lambda: (ledger.job(job_id) or {}).get("status") == "succeeded", "the new job ends", 180)
    tell(time.monotonic() - began)
    after = ledger.job(endless["id"])
    assert after is not None
    assert after["attempt"] == before["attempt"]


def test_a_redis_that_comes_and_goes_costs_no_job(
    deployment: Deployment, ledger: Ledger, endless: dict[str, Any], tell: Callable[[float], None]
) -> None:
    """Breaks when a worker gives up after so many tries, or a message that was cut off is done twice."""
    for seed in range(6):
        deployment.redis.cut()
        time.sleep(0.7)
        deployment.redis.restore()
        ledger.submit(seed % 3, patience=20)
        time.sleep(0.7)
    attempt = (ledger.job(endless["id"]) or {})["attempt"]
    began = time.monotonic()
    ledger.wait(240)
    tell(time.monotonic() - began)
    assert (ledger.job(endless["id"]) or {})["attempt"] == attempt
    assert ledger.check() == []


def test_a_worker_that_was_frozen_beyond_its_lease_writes_nothing_more(
    deployment: Deployment, ledger: Ledger, endless: dict[str, Any], tell: Callable[[float], None]
) -> None:
    """Breaks when it wakes up and goes on with a job that another one has: 2 attempts, 1 curve."""
    name = deployment.holder_of(endless["id"])
    assert name is not None
    trainer = deployment.trainer_of(name)
    assert trainer is not None
    deployment.signal(name, signal.SIGSTOP)
    trainer.suspend()
    began = time.monotonic()
    wait_for(lambda: (ledger.job(endless["id"]) or {}).get("attempt", 1) > 1, "another takes it over", 60)
    tell(time.monotonic() - began)
    assert time.monotonic() - began > LEASE - 4, "it was taken over while its lease held"
    deployment.signal(name, signal.SIGCONT)
    trainer.resume()
    wait_for(lambda: not trainer.is_running(), "the trainer of the former holder ends", 60)
    wait_for(trains(ledger, endless["id"], 0), "the new holder trains")
    job = ledger.job(endless["id"])
    assert job is not None
    assert job["attempt"] == 2
    events = deployment.client.get(f"/v1/jobs/{endless['id']}/events", params={"limit": 100}).json()["data"]
    steps = [event["step"] for event in events if event["type"] == "checkpoint.saved"]
    assert len(steps) == len(set(steps)), "a checkpoint was told twice"


def test_an_api_that_is_killed_while_it_answers_makes_one_job_of_one_key(
    deployment: Deployment, ledger: Ledger, tell: Callable[[float], None]
) -> None:
    """Breaks when a client that sends its request again after a crash gets a second job."""
    with ThreadPoolExecutor(8) as pool:
        submitted = [pool.submit(ledger.submit, seed % 3) for seed in range(8)]
        deployment.kill("api")
        began = time.monotonic()
        deployment.start("api")
        for each in submitted:
            each.result()
    tell(time.monotonic() - began)
    ledger.wait(240)
    assert ledger.check() == []
