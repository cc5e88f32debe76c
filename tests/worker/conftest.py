"""What the worker's tests stand on: ready digits, tiny jobs, and real Celery workers as subprocesses."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from models.checkpoints import save
from models.data import PackedDataset, build_builtin
from models.networks import build_networks
from models.presets import plan
from models.spec import load_spec
from models.spec.data import BUILTIN_DATASETS
from service.records import checkpoints, datasets, endings, images, jobs, leases
from service.records.status import JobStatus
from service.settings import Settings
from tests.conftest import TINY
from tests.worker.trainers import trainers
from worker.resources import Resources, open_resources

ENDLESS = {
    "budget": {"steps": 100_000_000},
    "log_every_steps": 10,
    "checkpoints": {"every_steps": 10_000_000},
}
PATIENCE = 180.0  # a bound for a hung test, never for a slow machine


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return build_builtin("digits", tmp_path_factory.mktemp("digits") / "packed")


@pytest.fixture
def resources(settings: Settings, packed_digits: PackedDataset) -> Iterator[Resources]:
    """Opened resources where the dataset `digits` is ready."""
    opened = open_resources(settings)
    for file in packed_digits.folder.iterdir():
        opened.artifacts.put_bytes(file.read_bytes(), f"datasets/digits/packed/{file.name}")
    with opened.database.transaction() as session:
        datasets.ensure_builtins(session)
        claimed = datasets.claim(session, "digits", "test")
        assert claimed is not None
        datasets.ready(
            session,
            "digits",
            claimed.attempt,
            count=packed_digits.count,
            classes=packed_digits.class_counts(),
            channels=packed_digits.channels,
            resolution=packed_digits.resolution,
            mean=packed_digits.mean,
            std=packed_digits.std,
            content_hash=packed_digits.content_hash,
        )
    yield opened
    opened.publisher.close()
    opened.database.close()


@pytest.fixture
def create_job(resources: Resources) -> Callable[..., str]:
    """Makes a queued job of the tiny spec with some of it changed; it is not published."""

    def create(**changed: Any) -> str:
        planned = plan({**TINY, "seed": 1, "threads": 1, **changed}, BUILTIN_DATASETS.get)
        with resources.database.transaction() as session:
            return jobs.create(
                session, planned.spec.model_dump(mode="json"), planned.warnings, planned.steps
            ).id

    return create


@pytest.fixture
def submit(resources: Resources, create_job: Callable[..., str]) -> Callable[..., str]:
    """Makes a job and publishes it."""

    def create_and_publish(**changed: Any) -> str:
        job_id = create_job(**changed)
        assert resources.publisher.send("atelier.train", job_id)
        return job_id

    return create_and_publish


@pytest.fixture
def create_checkpoint(
    resources: Resources, create_job: Callable[..., str], tmp_path: Path
) -> Callable[..., str]:
    """Stores untrained networks of the tiny spec, as a job would have; the id of the checkpoint."""

    def create(**changed: Any) -> str:
        job_id = create_job(**changed)
        with resources.database.transaction() as session:
            job = leases.claim(session, job_id, "test")
            assert job is not None
        spec = load_spec(job.spec)
        torch.manual_seed(0)
        folder = tmp_path / "checkpoints" / job_id
        saved = save(folder, spec=spec, step=1, images=8, networks=build_networks(spec), averaged=None)
        key = f"jobs/{job_id}/checkpoints/00000001/checkpoint.safetensors"
        resources.artifacts.put_file(saved.path, key)
        row = {"sha256": saved.sha256, "size_bytes": saved.size_bytes, "artifact": key}
        with resources.database.transaction() as session:
            added = checkpoints.add(session, job_id, attempt=job.attempt, step=1, images=8, **row)
            assert added is not None
            endings.finish(session, job_id, job.attempt, JobStatus.SUCCEEDED)
        return added.id

    return create


@pytest.fixture
def ask_images(resources: Resources) -> Callable[..., str]:
    """Makes a queued row of images, as the API does; it is not published."""

    def create(checkpoint_id: str, seeds: list[int], **changed: Any) -> str:
        request = {"seeds": seeds, "sampler": None, "format": "png", "layout": "separate", **changed}
        with resources.database.transaction() as session:
            return images.create(session, checkpoint_id, request).id

    return create


@pytest.fixture
def endless() -> dict[str, Any]:
    """The part of a spec that makes a job train until it is stopped."""
    return ENDLESS


@pytest.fixture
def step_of(resources: Resources) -> Callable[[str], int]:
    """The last recorded step."""

    def look(job_id: str) -> int:
        with resources.database.read() as session:
            return jobs.get(session, job_id).step

    return look


@pytest.fixture
def status_of(resources: Resources) -> Callable[[str], JobStatus]:
    def look(job_id: str) -> JobStatus:
        with resources.database.read() as session:
            return jobs.get(session, job_id).status

    return look


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Waits for a condition, and returns what it then is; slow is no failure, hung is."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.05)
        return found

    return wait


class CeleryWorker:
    """A real worker process of one queue."""

    def __init__(self, queue: str, settings: Settings, log: Path) -> None:
        environment = {
            "ATELIER_DATA": str(settings.data),
            "ATELIER_DATABASE_URL": settings.database_url,
            "ATELIER_REDIS_URL": settings.redis_url,
            "ATELIER_ARTIFACTS_URL": settings.artifacts_url,
            "ATELIER_DEVICE": settings.device,
            # One job is sooner begun by a new interpreter than by a server that has everything loaded.
            "ATELIER_PRELOAD": os.environ.get("ATELIER_PRELOAD", "False"),
        }
        flags = ["--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "INFO"]
        size = ["--concurrency", "4" if queue == "sample" else "1", "--hostname", f"{queue}@test"]
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-Q", queue, *size, *flags],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return " ready." in self.log

    def trainers(self) -> list[psutil.Process]:
        return trainers(self.process.pid)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


@pytest.fixture
def start_worker(
    settings: Settings, tmp_path: Path, wait_until: Callable[..., None]
) -> Iterator[Callable[[str], CeleryWorker]]:
    """Starts real workers, and ends them with the test."""
    started: list[CeleryWorker] = []

    def start(queue: str) -> CeleryWorker:
        worker = CeleryWorker(queue, settings, tmp_path / f"worker-{queue}-{len(started)}.log")
        started.append(worker)
        wait_until(lambda: worker.ready, f"the {queue} worker is ready")
        return worker

    yield start
    for worker in started:
        worker.end()
    shutil.rmtree(settings.data, ignore_errors=True)


@dataclass
class Training:
    """A job that trains until it is stopped, and who is at it."""

    job_id: str
    worker: CeleryWorker
    trainer: psutil.Process

    @property
    def alive(self) -> bool:
        return self.trainer.is_running() and self.trainer.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def training(
    start_worker: Callable[[str], CeleryWorker],
    submit: Callable[..., str],
    step_of: Callable[[str], int],
    wait_until: Callable[..., None],
) -> Training:
    """An endless job in a real worker, past its first recorded step."""
    worker = start_worker("train")
    job_id = submit(**ENDLESS)
    wait_until(lambda: step_of(job_id) > 0, "the first recorded step")
    (trainer,) = worker.trainers()
    return Training(job_id, worker, trainer)


def pytest_unconfigure() -> None:
    """No trainer of this test run outlives it."""
    for trainer in trainers():
        trainer.kill()
