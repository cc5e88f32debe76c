"""What the API's tests stand on: an app on a real database, a key, a trained job, and a hand that draws."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.presets import plan
from models.spec.data import BUILTIN_DATASETS
from service.api.app import create_app
from service.artifacts import Artifacts
from service.queue import Publisher, images_channel
from service.records import checkpoints, datasets, endings, images, jobs, keys, leases, metrics, samples
from service.records.database import Database
from service.records.metrics import MetricRow
from service.records.status import JobStatus
from service.settings import Settings

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
WEIGHTS = b"weights" * 1000
SHA256 = "ab" * 32


@dataclass(frozen=True)
class Trained:
    """A job that has succeeded, and its checkpoints from first to last."""

    job: str
    checkpoints: list[str]

    @property
    def checkpoint(self) -> str:
        return self.checkpoints[-1]


@pytest.fixture
def quick_settings(settings: Settings) -> Settings:
    """The test's settings, with waits for workers that are not there cut short."""
    return settings.model_copy(update={"describe_seconds": 0.2, "wait_seconds": 30.0})


@pytest.fixture(scope="session")
def described() -> list[dict[str, Any]]:
    """Holds the OpenAPI document once it is made: that takes half a second, and it is every app's."""
    return []


@pytest.fixture
def app(quick_settings: Settings, described: list[dict[str, Any]]) -> Iterator[FastAPI]:
    made = create_app(quick_settings)
    made.openapi_schema = described[0] if described else None
    yield made
    if made.openapi_schema and not described:
        described.append(made.openapi_schema)
    made.state.parts.publisher.close()
    made.state.parts.database.close()


@pytest.fixture
def key(database: Database) -> str:
    with database.transaction() as session:
        datasets.ensure_builtins(session)
        return keys.create(session, "test")[1]


@pytest.fixture
def client(app: FastAPI, key: str) -> TestClient:
    return TestClient(app, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Serves apps over real sockets: the address of each."""
    with ExitStack() as stack:

        def start(app: FastAPI) -> str:
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
            thread = threading.Thread(target=server.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        yield start


@pytest.fixture
def train(database: Database, artifacts: Artifacts) -> Callable[..., Trained]:
    """Records a whole training as its worker would: metrics, samples, checkpoints, and the end."""

    def run(steps: tuple[int, ...] = (10, 20), points: int = 50, **spec: Any) -> Trained:
        planned = plan({"preset": "dcgan", "seed": 1, **spec}, BUILTIN_DATASETS.get)
        with database.transaction() as session:
            job = jobs.create(session, planned.spec.model_dump(mode="json"), planned.warnings, planned.steps)
        with database.transaction() as session:
            claimed = leases.claim(session, job.id, "test")
            assert claimed is not None
            rows = [MetricRow("loss/generator", step, step * 64, 1 / (step + 1)) for step in range(points)]
            metrics.add(session, job.id, rows, attempt=claimed.attempt)
            metrics.add(
                session,
                job.id,
                [MetricRow("loss/discriminator", 0, 0, float("nan"))],
                attempt=claimed.attempt,
            )
        made = [_save(database, artifacts, job.id, claimed.attempt, step) for step in steps]
        with database.transaction() as session:
            endings.finish(session, job.id, claimed.attempt, JobStatus.SUCCEEDED)
        return Trained(job.id, made)

    return run


def _save(database: Database, artifacts: Artifacts, job_id: str, attempt: int, step: int) -> str:
    sample, folder = f"jobs/{job_id}/samples/{step:08d}.png", f"jobs/{job_id}/checkpoints/{step:08d}"
    artifacts.put_bytes(PNG, sample)
    artifacts.put_bytes(WEIGHTS, f"{folder}/checkpoint.safetensors")
    with database.transaction() as session:
        samples.add(session, job_id, attempt=attempt, step=step, images=step * 64, artifact=sample)
        saved = checkpoints.add(
            session,
            job_id,
            attempt=attempt,
            step=step,
            images=step * 64,
            artifact=f"{folder}/checkpoint.safetensors",
            size_bytes=len(WEIGHTS),
            sha256=SHA256,
        )
    assert saved is not None
    return saved.id


@pytest.fixture
def trained(train: Callable[..., Trained]) -> Trained:
    return train()


@pytest.fixture
def drawing(database: Database, artifacts: Artifacts, settings: Settings) -> Callable[[], Any]:
    """A block in which queued images are made, as the sampling worker records them."""

    @contextmanager
    def hand(*, announce: bool = True, error: dict[str, str] | None = None) -> Iterator[None]:
        stop = threading.Event()
        publisher = Publisher(settings.redis_url)

        def draw() -> None:
            while not stop.wait(0.02):
                with database.transaction() as session:
                    batch = images.claim_next(session, "test")
                if batch is None:
                    continue
                result = _draw(artifacts, batch.id, batch.request)
                with database.transaction() as session:
                    if error is None:
                        images.finish_all(session, {batch.id: (batch.attempt, result)})
                    else:
                        images.fail(session, batch.id, batch.attempt, error)
                if announce:
                    publisher.announce(images_channel(batch.id))

        thread = threading.Thread(target=draw)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            publisher.close()

    return hand


def _draw(artifacts: Artifacts, image_id: str, request: dict[str, Any]) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    result: dict[str, Any] = {"data": data, "grid": None, "animation": None, "archive": None}
    kind, way = request["format"], request.get("interpolate")
    for index, seed in enumerate(request["seeds"]):
        position = None if way is None else index / (way["steps"] - 1)
        key = None if kind == "npz" else f"images/{image_id}/{index}.{kind}"
        if key is not None:
            artifacts.put_bytes(PNG + str(seed).encode(), key)
        data.append({"index": index, "seed": seed, "label": None, "position": position, "artifact": key})
    whole = {"archive": f"images.{kind}"} if kind == "npz" else {}
    if kind != "npz" and (len(data) > 1 or request["layout"] == "grid"):
        whole["grid"] = f"grid.{kind}"
    if request.get("animation") is not None:
        whole["animation"] = f"animation.{request['animation']['format']}"
    for name, file in whole.items():
        result[name] = f"images/{image_id}/{file}"
        artifacts.put_bytes(PNG + name.encode(), result[name])
    return result
