"""How many images a second the service makes for clients that each want one: together, and one after another.

Run: python -m benchmarks.sampling [--dataset digits] [--rounds 5]
"""

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import torch
import typer

from models.checkpoints import load
from models.sampling import generate
from models.spec import DiffusionSpec, SamplerSpec
from service.interruption import Interruption
from service.local import Stack

CLIENTS = 32
PRESETS: dict[str, dict[str, Any] | None] = {"dcgan": None, "ddpm": {"kind": "ddim", "steps": 10}}
WORKERS = {"train": 1, "prepare": 1, "sample": 1}
OVER = ("succeeded", "failed", "cancelled")


class Client:
    """One connection that asks for images of one checkpoint; cheap, for it runs on the same cores."""

    def __init__(self, stack: Stack, checkpoint: str, sampler: dict[str, Any] | None) -> None:
        where = urlsplit(stack.url)
        self._connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=120)
        self._path = f"/v1/checkpoints/{checkpoint}/images"
        self._sampler = sampler
        key = stack.key_file.read_text().strip()
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def close(self) -> None:
        """The next request opens it again: the service ends connections that have been idle for seconds."""
        self._connection.close()

    def ask(self, seed: int) -> float:
        """Seconds until the picture is there."""
        body = {"seed": seed} | ({} if self._sampler is None else {"sampler": self._sampler})
        began = time.perf_counter()
        headers = {**self._headers, "Accept": "image/png"}
        self._connection.request("POST", self._path, json.dumps(body), headers)
        reply = self._connection.getresponse()
        picture = reply.read()
        if reply.status != 200 or not picture.startswith(b"\x89PNG"):
            raise RuntimeError(f"{reply.status}: {picture[:500]!r}")
        return time.perf_counter() - began


def main(
    dataset: Annotated[str, typer.Option(help="What the networks are trained on, for a moment.")] = "digits",
    rounds: Annotated[int, typer.Option(help="Images of each client.")] = 5,
) -> None:
    """Train each preset for five steps, then ask for its images both ways, by turns."""
    with (
        Interruption() as interruption,
        tempfile.TemporaryDirectory(prefix="atelier-sampling-") as folder,
        Stack(Path(folder), interruption, port=0, workers=WORKERS) as stack,
    ):
        for preset, sampler in PRESETS.items():
            checkpoint = train(stack, preset, dataset)
            forward = forward_pass(stack, checkpoint, sampler)
            clients = [Client(stack, checkpoint, sampler) for _ in range(CLIENTS)]
            bare, lone, ratios, rates = measure(forward, clients, rounds)
            said = f"{preset}: alone {1000 * lone:.1f} ms, of which the network takes {1000 * bare:.1f}; "
            said += (
                f"{rates[0]:.0f} images/s one after another, {rates[1]:.0f} of {CLIENTS} clients at once: "
            )
            low, ratio, high = statistics.quantiles(ratios, n=4)
            print(f"{said}x {ratio:.1f} (quartiles {low:.1f} to {high:.1f})", flush=True)


def measure(
    forward: Callable[[int], float], clients: Sequence[Client], rounds: int
) -> tuple[float, float, list[float], tuple[float, float]]:
    """Median seconds of the network and of a lone request; each round's ratio; images a second both ways."""
    bare: list[float] = []
    alone: list[float] = []
    together: list[float] = []
    count = len(clients)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda client: client.ask(0), clients))
        for number in range(rounds):
            for client in clients:
                client.close()
            bare += [forward(1000 * number + i) for i in range(count)]
            alone += [clients[0].ask(1000 * number + i) for i in range(count)]
            began = time.perf_counter()
            list(pool.map(lambda client: client.ask(1), clients))
            together.append(time.perf_counter() - began)
    ratios = [sum(alone[i * count : (i + 1) * count]) / seconds for i, seconds in enumerate(together)]
    rates = len(alone) / sum(alone), rounds * count / sum(together)
    return statistics.median(bare), statistics.median(alone), ratios, rates


def train(stack: Stack, preset: str, dataset: str) -> str:
    """A checkpoint of five steps: how long an image takes does not depend on how good it is."""
    spec = {"preset": preset, "dataset": dataset, "budget": {"steps": 5}, "evaluation": None}
    headers = {"Authorization": f"Bearer {stack.key_file.read_text().strip()}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as client:
        job = client.post("/v1/jobs", json=spec).raise_for_status().json()
        while job["status"] not in OVER:
            time.sleep(0.2)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
        if job["status"] != "succeeded":
            raise RuntimeError(f"the job has {job['status']}: {job['error']}")
        return str(job["last_checkpoint"])


def forward_pass(stack: Stack, checkpoint: str, sampler: dict[str, Any] | None) -> Callable[[int], float]:
    """A function from a seed to the seconds of its image in this process, the network loaded."""
    headers = {"Authorization": f"Bearer {stack.key_file.read_text().strip()}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as client:
        file = client.get(f"/v1/checkpoints/{checkpoint}/download").raise_for_status().content
    path = stack.data / "benchmark.safetensors"
    path.write_bytes(file)
    loaded = load(path)
    chosen = None
    if isinstance(loaded.spec, DiffusionSpec):
        chosen = SamplerSpec.model_validate(
            {**loaded.spec.sampler.model_dump(mode="json"), **(sampler or {})}
        )

    def forward(seed: int) -> float:
        began = time.perf_counter()
        generate(loaded.networks, loaded.spec, [seed], sampler=chosen)
        return time.perf_counter() - began

    return forward


if __name__ == "__main__":
    torch.set_num_threads(2)
    typer.run(main)
