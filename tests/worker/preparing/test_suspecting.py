"""Label suspects of uploads: found by a worker with nothing else to do, reported, kept for trainers."""

import io
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import redis
from PIL import Image
from sqlalchemy import update

from models.data import PackedDataset
from models.metrics.suspects import kept_suspects
from service.records import datasets
from service.records.tables import Dataset
from worker import suspecting
from worker.preparing import prepare
from worker.reconciler import reconcile
from worker.resources import Resources
from worker.suspecting import GiveWayError, UnwantedError, Watch, suspect

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FLIPPED = {"dark/7.png": "bright", "bright/12.png": "dark"}  # what lies in the wrong folder looks like


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def shades() -> dict[str, bytes]:
    """60 noisy images of 16 px, half dark and half bright; one of each lies in the wrong folder."""
    noise = np.random.default_rng(0).integers(0, 60, (60, 16, 16)).astype(np.uint8)
    names = [f"{('dark', 'bright')[i % 2]}/{i}.png" for i in range(60)]
    flipped = {"dark/12.png": "bright/12.png", "bright/7.png": "dark/7.png"}
    return {flipped.get(name, name): png(noise[i] + 150 * (i % 2)) for i, name in enumerate(names)}


@pytest.fixture
def ready(resources: Resources, upload: Callable[..., str]) -> str:
    dataset_id = upload(shades())
    prepare(dataset_id, resources)
    return dataset_id


def test_flipped_labels_are_reported_by_the_name_of_their_file(
    resources: Resources, ready: str, record: Callable[[str], Dataset]
) -> None:
    assert record(ready).suspects is None
    suspect(ready, resources, threading.Event())
    row = record(ready)
    assert row.suspects is not None
    assert {one["name"]: one["likely"] for one in row.suspects} == FLIPPED
    assert all(one["given"] == one["name"].split("/")[0] for one in row.suspects)
    assert all(0.5 < one["confidence"] <= 1 for one in row.suspects)
    assert row.suspects_count == len(FLIPPED)
    assert row.lease_expires_at is None

    packed = PackedDataset.open(resources.artifacts.local_folder(f"datasets/{ready}/packed"))
    assert resources.artifacts.exists(f"datasets/{ready}/packed/suspects.json")
    kept = [
        one.index for one in kept_suspects(packed, pytest.fail)
    ]  # what a trainer gets: nothing is searched
    assert kept == [one["index"] for one in row.suspects]
    assert packed.names is not None
    assert {packed.names[index] for index in kept} == set(FLIPPED)


@SQLITE
@pytest.mark.slow
def test_a_real_worker_reports_the_flipped_digits_of_an_archive(
    resources: Resources,
    upload: Callable[..., str],
    record: Callable[[str], Dataset],
    start_worker: Callable[[str], object],
    wait_until: Callable[..., None],
    packed_digits: PackedDataset,
) -> None:
    """From the message of an upload alone: the worker that has packed a set goes on to its suspects."""
    labels, generator = packed_digits.labels.copy(), np.random.default_rng(0)
    flipped = generator.choice(packed_digits.count, 20, replace=False)
    labels[flipped] = (labels[flipped] + generator.integers(1, 10, len(flipped))) % 10
    files = {f"{label}/{i}.png": png(packed_digits.images[i, 0]) for i, label in enumerate(labels)}
    dataset_id = upload(files)
    start_worker("prepare")
    assert resources.publisher.send("atelier.prepare", dataset_id)
    wait_until(lambda: record(dataset_id).suspects is not None, "the report of the suspects")
    reported = {one["name"] for one in record(dataset_id).suspects or []}
    right = reported & {f"{labels[i]}/{i}.png" for i in flipped}
    assert len(right) >= 0.8 * len(flipped)
    assert len(right) >= 0.5 * len(reported)


@SQLITE
def test_an_unlabelled_set_has_none(
    resources: Resources, upload: Callable[..., str], record: Callable[[str], Dataset]
) -> None:
    dataset_id = upload({name.replace("/", "-"): data for name, data in shades().items()})
    prepare(dataset_id, resources)
    assert record(dataset_id).suspects == []


@SQLITE
def test_it_gives_way_to_what_somebody_waits_for(
    resources: Resources, ready: str, record: Callable[[str], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when an upload waits minutes behind a search that nobody asked for."""
    monkeypatch.setattr(suspecting, "LOOK_EVERY", 0.0)
    looked = suspecting.Watch.look
    looks: list[float] = []

    def look_while_an_upload_arrives(watch: Watch) -> None:
        looks.append(time.monotonic())
        if len(looks) == 3:
            resources.publisher.send("atelier.prepare", "ds_other")
        looked(watch)

    monkeypatch.setattr(suspecting.Watch, "look", look_while_an_upload_arrives)
    suspect(ready, resources, threading.Event())
    row = record(ready)
    assert len(looks) == 3
    assert (row.suspects, row.lease_expires_at, row.suspects_attempts) == (None, None, 0)
    assert not resources.artifacts.exists(f"datasets/{ready}/packed/suspects.json")


def test_a_lost_message_is_sent_again_by_the_reconciler(resources: Resources, ready: str) -> None:
    """Once, and not while an upload waits; nothing is sent once the suspects are known."""

    def due_after(**values: object) -> int:
        with resources.database.transaction() as session:
            moment = {"published_at": datetime.now(UTC) - timedelta(hours=1)}
            session.execute(update(Dataset).where(Dataset.id == ready).values({**moment, **values}))
        return reconcile(resources.database, resources.publisher)

    with redis.Redis.from_url(resources.settings.redis_url) as broker:
        assert due_after() == 1
        assert reconcile(resources.database, resources.publisher) == 0
        (message,) = broker.lrange("prepare", 0, -1)
        headers = json.loads(message)["headers"]
        assert (headers["task"], ready in headers["argsrepr"]) == ("atelier.suspect", True)
        assert due_after() == 0  # it still waits
        broker.delete("prepare")
        assert due_after(suspects=[]) == 0
        assert broker.llen("prepare") == 0


@SQLITE
def test_a_worker_that_is_to_stop_does_not_search(
    resources: Resources, ready: str, record: Callable[[str], Dataset]
) -> None:
    stopping = threading.Event()
    stopping.set()
    suspect(ready, resources, stopping)
    row = record(ready)
    assert (row.suspects, row.lease_expires_at, row.suspects_attempts) == (None, None, 0)


@SQLITE
def test_a_set_deleted_meanwhile_leaves_no_files(
    resources: Resources, ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = suspecting._found

    def found_after_deletion(dataset_id: str, *rest: object) -> object:
        report = found(dataset_id, *rest)  # type: ignore[arg-type]
        with resources.database.transaction() as session:
            datasets.delete(session, dataset_id)
        return report

    monkeypatch.setattr(suspecting, "_found", found_after_deletion)
    suspect(ready, resources, threading.Event())
    assert not resources.artifacts.exists(f"datasets/{ready}/packed/suspects.json")


@SQLITE
def test_the_lease_is_renewed_and_a_lost_one_ends_the_search(
    resources: Resources, ready: str, record: Callable[[str], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspecting, "RENEW_EVERY", 0.0)
    watch = Watch(ready, resources, threading.Event())
    watch.seen()
    assert record(ready).lease_expires_at is not None
    with resources.database.transaction() as session:
        session.execute(update(Dataset).where(Dataset.id == ready).values(suspects=[]))
    with pytest.raises(UnwantedError):
        watch.seen()
    watch._stopping.set()
    with pytest.raises(GiveWayError):
        watch.look()
