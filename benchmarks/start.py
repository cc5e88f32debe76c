"""How long a job waits from its POST to its first training step: with forked trainers, and with fresh ones.

Run: python -m benchmarks.start [--rounds 10] [--preset dcgan]
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event as Record

from service.event_files import event_file_key
from service.interruption import Interruption
from service.local import Stack

# Few images are scored at the end: that is not what is timed.
SCORED = {"evaluation": {"samples": 64}}
JOB: dict[str, Any] = {"dataset": "digits", "budget": {"steps": 5}, "log_every_steps": 1, **SCORED}
WAYS = {"forked": "True", "fresh": "False"}
PARTS = ("POST to claim", "claim to settled", "settled to step 1", "POST to step 1")
WORKERS = {"train": 1, "prepare": 1}
OVER = ("succeeded", "failed", "cancelled")

Times = dict[str, float]


def main(
    rounds: Annotated[int, typer.Option(help="Jobs of each way.")] = 10,
    preset: Annotated[str, typer.Option(help="Preset of the jobs.")] = "dcgan",
) -> None:
    """Post jobs by turns to two stacks, one with the fork server and one without."""
    seconds: dict[str, list[Times]] = {way: [] for way in WAYS}
    with ExitStack() as running, Interruption() as interruption:
        stacks = {way: running.enter_context(stack(way, interruption)) for way in WAYS}
        for each in stacks.values():
            start(each, preset)  # prepares the data, trains the classifier, waits for a server that loads
        for _ in range(rounds):
            for way, each in stacks.items():
                seconds[way].append(start(each, preset))
    for way, times in seconds.items():
        said = ", ".join(f"{part} {statistics.median(each[part] for each in times):.2f} s" for part in PARTS)
        print(f"{way}: {said}")
    ratios = [
        slow[PARTS[-1]] / fast[PARTS[-1]]
        for fast, slow in zip(seconds["forked"], seconds["fresh"], strict=True)
    ]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"fresh takes {ratio:.1f} times as long (quartiles {low:.1f} to {high:.1f})")


@contextmanager
def stack(way: str, interruption: Interruption) -> Iterator[Stack]:
    """A running stack whose worker starts trainers this way; its files are removed with it."""
    os.environ["ATELIER_PRELOAD"] = WAYS[way]
    with (
        tempfile.TemporaryDirectory(prefix=f"atelier-{way}-") as folder,
        Stack(Path(folder), interruption, port=0, workers=WORKERS) as running,
    ):
        yield running


def start(stack: Stack, preset: str) -> Times:
    """Post a job and wait for its end; how long it took to its first step, and to what lies before it."""
    headers = {"Authorization": f"Bearer {stack.key_file.read_text().strip()}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as client:
        posted = time.time()
        job = client.post("/v1/jobs", json=JOB | {"preset": preset}).raise_for_status().json()
        while job["status"] not in OVER:
            time.sleep(0.2)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
    if job["status"] != "succeeded":
        raise RuntimeError(f"the job has {job['status']}: {json.dumps(job['error'])}")
    claimed = datetime.fromisoformat(job["started_at"]).timestamp()
    settled, stepped = told(stack.data / "artifacts" / event_file_key(job["id"], job["attempt"]))
    parts = (claimed - posted, settled - claimed, stepped - settled, stepped - posted)
    return dict(zip(PARTS, parts, strict=True))


def told(file: Path) -> tuple[float, float]:
    """When the trainer told of its settled spec and of its first step, by its TensorBoard file."""
    at: dict[str, float] = {}
    for raw in RawEventFileLoader(str(file)).Load():
        record = Record.FromString(raw)
        for value in record.summary.value:
            at.setdefault(value.tag, record.wall_time)
    return at["spec"], at["rate/images_per_second"]


if __name__ == "__main__":
    typer.run(main)
