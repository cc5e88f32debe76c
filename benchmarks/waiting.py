"""What 200 clients that wait for images cost everybody else: health, submits and lists with and without them.

Run: python -m benchmarks.waiting [--waiting 200] [--rounds 5]
"""

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from benchmarks.sampling import WORKERS, train
from service.interruption import Interruption
from service.local import Stack

EACH = 50  # requests of each kind in a round
JOB = json.dumps({"preset": "dcgan", "dataset": "digits", "budget": {"steps": 5}})
USES = {
    "health": ("GET", "/readyz", None),
    "submit": ("POST", "/v1/jobs", JOB),
    "list": ("GET", "/v1/jobs?limit=20", None),
}


def main(
    waiting: Annotated[int, typer.Option(help="Clients that wait for images.")] = 200,
    rounds: Annotated[int, typer.Option(help="Measurements of each kind, by turns.")] = 5,
) -> None:
    """Make a checkpoint, end all workers, and measure by turns with nobody and with many who wait."""
    milliseconds: dict[str, dict[bool, list[float]]] = {use: {False: [], True: []} for use in USES}
    with Interruption() as interruption, tempfile.TemporaryDirectory(prefix="atelier-waiting-") as folder:
        with Stack(Path(folder), interruption, port=0, workers=WORKERS) as stack:
            checkpoint = train(stack, "dcgan", "digits")
        # Nobody makes the images now, and nobody trains what is submitted.
        with Stack(Path(folder), interruption, port=0, workers={}) as stack:
            for _ in range(rounds):
                for crowded in (False, True):
                    with crowd(stack, checkpoint, waiting if crowded else 0):
                        for use, seconds in measure(stack).items():
                            milliseconds[use][crowded] += [1000 * each for each in seconds]
    report(milliseconds, waiting)


def report(milliseconds: Mapping[str, Mapping[bool, list[float]]], waiting: int) -> None:
    for use, times in milliseconds.items():
        told = [
            f"p50 {statistics.median(each):.1f} ms, p99 {statistics.quantiles(each, n=100)[98]:.1f} ms"
            for each in (times[False], times[True])
        ]
        ratio = statistics.median(times[True]) / statistics.median(times[False])
        print(f"{use}: nobody waits: {told[0]}; {waiting} wait: {told[1]}; p50 x {ratio:.2f}")


@contextmanager
def crowd(stack: Stack, checkpoint: str, size: int) -> Iterator[None]:
    """So many connections that each have asked for an image; they hang up in the end, which cancels them."""
    connections = []
    try:
        for seed in range(size):
            connections.append(connect(stack))
            body = json.dumps({"seed": seed})
            path = f"/v1/checkpoints/{checkpoint}/images"
            connections[-1].request("POST", path, body, {**headers(stack), "Prefer": "wait=300"})
        time.sleep(2.0)  # until all of them are at their wait
        yield
    finally:
        for connection in connections:
            connection.close()
        time.sleep(2.0)  # until the last of them is cancelled


def measure(stack: Stack) -> dict[str, list[float]]:
    """Seconds of each request, one at a time."""
    connection, seconds = connect(stack), {}
    for use, (method, path, body) in USES.items():
        seconds[use] = [ask(connection, method, path, body, headers(stack)) for _ in range(EACH)]
    connection.close()
    return seconds


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None, sent: dict[str, str]
) -> float:
    began = time.perf_counter()
    connection.request(method, path, body, sent)
    reply = connection.getresponse()
    said = reply.read()
    if reply.status >= 300:
        raise RuntimeError(f"{reply.status}: {said[:500]!r}")
    return time.perf_counter() - began


def connect(stack: Stack) -> http.client.HTTPConnection:
    where = urlsplit(stack.url)
    return http.client.HTTPConnection(str(where.hostname), where.port, timeout=300)


def headers(stack: Stack) -> dict[str, str]:
    key = stack.key_file.read_text().strip()
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


if __name__ == "__main__":
    typer.run(main)
