"""Kills parts of a running deployment at random while jobs keep coming, and then reads the ledger."""

import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.chaos.deployment import Deployment, wait_for
from tests.chaos.ledger import Ledger

SEEDS = (1, 2, 3)
OPEN_JOBS = 2  # one for each training worker: a job that is lost waits behind no other
RECOVERS_WITHIN = 90.0
WEIGHTS = {"trainer": 5, "worker": 5, "api": 2, "redis": 2, "reconcile": 1, "postgresql": 3}
PROMISED = {"trainer": 3.0, "worker": 25.0}
"""Seconds from a loss to the next claim."""


@dataclass
class Campaign:
    """One seeded run over a deployment that stands."""

    deployment: Deployment
    ledger: Ledger
    chance: random.Random
    tell: Callable[[str], None]
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._seeds = itertools.cycle(SEEDS)
        self._killed_at: dict[str, Any] = {}  # the last checkpoint of a job when its trainer was killed last

    def run(self, kills: int) -> list[str]:
        """Every broken promise, in words."""
        for seed in SEEDS:  # undisturbed: what all others of the same seed must come to
            self.ledger.submit(seed)
        self.ledger.wait(300)
        kinds = [kind for kind in WEIGHTS if kind != "postgresql" or self.deployment.database == kind]
        while (killed := sum(map(len, self.recoveries.values()))) < kills:
            (kind,) = self.chance.choices(kinds, [WEIGHTS[kind] for kind in kinds])
            running = self._running()
            time.sleep(self.chance.uniform(0, 1.5))
            seconds = self._kill(kind, running)
            if seconds is not None:
                self.recoveries[kind].append(seconds)
                self.tell(f"{killed + 1:4d} {kind:10s} {seconds:6.2f} s")
        self.ledger.wait(600)
        return self.ledger.check()

    def report(self) -> str:
        lines = ["| killed | times | p50 | p99 | longest | promised |", "|---|--:|--:|--:|--:|--:|"]
        for kind, seconds in sorted(self.recoveries.items()):
            ranked = sorted(seconds)
            p99 = ranked[min(len(ranked) - 1, round(0.99 * (len(ranked) - 1)))]
            promised = f"{PROMISED[kind]} s" if kind in PROMISED else ""
            figures = f"{statistics.median(ranked):.1f} s | {p99:.1f} s | {ranked[-1]:.1f} s"
            lines.append(f"| {kind} | {len(ranked)} | {figures} | {promised} |")
        return "\n".join([*lines, f"{len(self.ledger.accepted)} jobs were accepted."])

    def _running(self) -> dict[str, Any]:
        """A job that trains, once there is one; others wait behind it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            jobs = self.ledger.open_jobs()
            for _ in range(OPEN_JOBS - len(jobs)):
                self.ledger.submit(next(self._seeds))
            found[:] = [job for job in jobs if job["status"] == "running" and job["progress"]["step"]]
            return bool(found)

        wait_for(look, "a job trains", 120)
        return self.chance.choice(found)

    def _kill(self, kind: str, job: dict[str, Any]) -> float | None:
        """Kill one of the kind; the seconds until its work goes on, None where there was none to kill."""
        if kind in ("trainer", "worker"):
            return self._kill_worker(kind, job)
        began = time.monotonic()
        self.deployment.kill(kind)
        time.sleep(self.chance.uniform(0, 3))
        if kind == "redis":
            self.ledger.submit(next(self._seeds))  # is answered all the same
        self.deployment.start(kind)
        wait_for(self.deployment.ready, f"ready after {kind} was killed", RECOVERS_WITHIN)
        return time.monotonic() - began

    def _kill_worker(self, kind: str, job: dict[str, Any]) -> float | None:
        name = self.deployment.holder_of(job["id"])
        trainer = self.deployment.trainer_of(name) if name else None
        if name is None or trainer is None:
            return None
        job = self.ledger.job(job["id"]) or job  # seconds may have passed
        began = time.monotonic()
        if kind == "trainer":
            if self._killed_at.get(job["id"], "none yet") == job["last_checkpoint"]:
                return None  # a job whose trainers die three times without a new checkpoint may fail
            self._killed_at[job["id"]] = job["last_checkpoint"]
            try:
                trainer.kill()
            except psutil.NoSuchProcess:
                return None
        else:
            self.deployment.kill(name)
            self.deployment.start(name)
            wait_for(lambda: not trainer.is_running(), "the trainer of a killed worker is gone", 30)
        last: dict[str, Any] = job

        def goes_on() -> bool:
            last.update(self.ledger.job(job["id"]) or {})
            return last["attempt"] > attempt or last["status"] in ("succeeded", "failed")

        attempt = job["attempt"]
        wait_for(goes_on, f"the job of a killed {kind} goes on: {job}", RECOVERS_WITHIN)
        return time.monotonic() - began if last["attempt"] > attempt else None
