"""What a client was promised, written down by the client, and compared with what became of it."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

OVER = {"succeeded", "failed", "cancelled"}
SPEC: dict[str, Any] = {
    "preset": "dcgan",
    "dataset": "digits",
    "budget": {"steps": 400},
    "batch_size": 16,
    "generator": {"ngf": 4},
    "discriminator": {"ndf": 4},
    "evaluation": None,
    "checkpoints": {"every_steps": 50},
    "samples": {"every_steps": 400, "count": 4},
    "log_every_steps": 10,
    "memory_format": "contiguous",
    "precision": "fp32",
    "threads": 1,
}


@dataclass
class Ledger:
    """Jobs that the service has accepted, by id: the seed of each."""

    client: httpx.Client
    accepted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._over: set[str] = set()  # need no more asking while others train
        self._before = {job["id"] for job in self._all("/v1/jobs")}

    def submit(self, seed: int, patience: float = 90.0) -> str:
        """Post until there is an answer, with one Idempotency-Key, as a careful client does."""
        key, deadline = uuid.uuid4().hex, time.monotonic() + patience
        while True:
            try:
                reply = self.client.post(
                    "/v1/jobs", json={**SPEC, "seed": seed}, headers={"Idempotency-Key": key}
                )
                if reply.status_code == 202:
                    self.accepted[reply.json()["id"]] = seed
                    return str(reply.json()["id"])
                problem = reply.text
                if reply.status_code < 500:
                    raise AssertionError(f"refused: {problem}")
            except httpx.HTTPError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer within {patience} s: {problem}")
            time.sleep(0.5)

    def job(self, job_id: str) -> dict[str, Any] | None:
        """None while the API does not answer."""
        try:
            reply = self.client.get(f"/v1/jobs/{job_id}")
        except httpx.HTTPError:
            return None
        return dict(reply.json()) if reply.is_success else None

    def open_jobs(self) -> list[dict[str, Any]]:
        """Those that were not over when they last were asked for; without what the API did not tell."""
        found = [job for job_id in self._unsettled() if (job := self.job(job_id)) is not None]
        self._over.update(job["id"] for job in found if job["status"] in OVER)
        return [job for job in found if job["status"] not in OVER]

    def wait(self, seconds: float) -> None:
        """Until every job is over."""
        deadline = time.monotonic() + seconds
        while self.open_jobs() or self._unsettled():
            if time.monotonic() > deadline:
                raise AssertionError(f"not over within {seconds} s: {self.open_jobs()}")
            time.sleep(1.0)

    def _unsettled(self) -> list[str]:
        return [job_id for job_id in self.accepted if job_id not in self._over]

    def check(self) -> list[str]:
        """Every broken promise, in words; the jobs must be over.

        Jobs of one seed must have the same weights and curves, whatever happened to them: a stale write, or a
        step that was done twice, would show.
        """
        broken, outcomes = [], {}
        listed = {job["id"] for job in self._all("/v1/jobs")}
        broken += [f"{job_id} was not asked for" for job_id in listed - set(self.accepted) - self._before]
        for job_id, seed in self.accepted.items():
            job = self.job(job_id)
            if job is None or job_id not in listed:
                broken.append(f"{job_id} is lost")
                continue
            if job["status"] != "succeeded":
                broken.append(f"{job_id} is {job['status']}: {job['error']}")
                continue
            ends = Counter(event["type"] for event in self._all(f"/v1/jobs/{job_id}/events"))
            if ends["job.succeeded"] != 1:
                broken.append(f"{job_id} has finished {ends['job.succeeded']} times")
            first, outcome = outcomes.setdefault(seed, (job_id, self._outcome(job_id)))
            if self._outcome(job_id) != outcome:
                broken.append(f"{job_id} is not what {first} with the same seed is")
        return broken

    def _outcome(self, job_id: str) -> Any:
        series = self.client.get(f"/v1/jobs/{job_id}/metrics", params={"max_points": 5000}).json()["series"]
        curves = {key: curve for key, curve in series.items() if key.startswith(("loss/", "output/"))}
        newest = max(self._all(f"/v1/jobs/{job_id}/checkpoints"), key=lambda row: row["step"])
        return curves, newest["step"], newest["sha256"]

    def _all(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.client.get(path, params={"limit": 100} | ({"after": after} if after else {})).json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["last_id"]
