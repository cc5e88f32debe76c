"""Requests that are made together: in one batch, fairly, and by nobody once they are not wanted."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from models.sampling import generate
from service.errors import Unavailable
from service.records import checkpoints, images
from service.records.status import RequestStatus
from tests.worker.made import TINY_DDPM, pictures, row
from worker import renewal, sampling
from worker.resources import Resources
from worker.sampling import Sampler

Make = Callable[..., str]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def sampler(resources: Resources) -> Sampler:
    return Sampler(resources, threading.Event())


@SQLITE
@pytest.mark.parametrize("changed", [{}, TINY_DDPM], ids=["gan", "diffusion"])
def test_requests_for_one_checkpoint_are_made_in_one_batch(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
) -> None:
    """Breaks when thirty clients that ask for one image each wait for each other's."""
    sizes: list[int] = []

    def counted(networks: Any, spec: Any, seeds: list[int], **options: Any) -> Any:
        sizes.append(len(seeds))
        return generate(networks, spec, seeds, **options)

    monkeypatch.setattr(sampling, "generate", counted)
    checkpoint = create_checkpoint(**changed)
    asked = [ask_images(checkpoint, [seed]) for seed in range(30)]
    sampler.ring()
    assert {row(resources, image_id).status for image_id in asked} == {RequestStatus.SUCCEEDED}
    assert sizes == [30]
    assert [*pictures(resources, asked[7])] == [7]


@SQLITE
def test_a_small_request_overtakes_a_large_one(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when one client's thousand images keep all others waiting, of this checkpoint or another."""
    first, second = create_checkpoint(), create_checkpoint(generator={"ngf": 4, "nz": 3})
    large, small, other = ask_images(first, list(range(300))), ask_images(first, [1]), ask_images(second, [1])
    sampler.ring()
    ends = {image_id: row(resources, image_id).finished_at for image_id in (large, small, other)}
    assert all(end is not None for end in ends.values())
    assert max(ends[small], ends[other]) < ends[large]


@SQLITE
def test_a_lone_request_waits_for_no_others_and_one_after_a_crowd_does(
    sampler: Sampler, create_checkpoint: Make, ask_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when one client's images wait for company that never comes, or a crowd is made one by one."""
    waited: list[float] = []
    monkeypatch.setattr(sampling.time, "sleep", waited.append)
    checkpoint = create_checkpoint()
    for crowd, waits in ((1, 0), (1, 0), (3, 0), (1, 1), (1, 1)):
        for seed in range(crowd):
            ask_images(checkpoint, [seed])
        sampler.ring()
        assert waited == [sampling.WINDOW] * waits


@SQLITE
def test_what_nobody_wants_any_more_is_not_made(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when a worker goes on for minutes with images that another has taken over."""
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.01)
    asked = ask_images(create_checkpoint(**TINY_DDPM), list(range(1000)))
    thread = threading.Thread(target=sampler.ring)
    thread.start()
    while row(resources, asked).status != RequestStatus.RUNNING:
        time.sleep(0.01)
    with resources.database.transaction() as session:
        images.get(session, asked).attempt += 1
    thread.join(60)
    assert not thread.is_alive()
    found = row(resources, asked)
    assert (found.status, found.result) == (RequestStatus.RUNNING, None)


@SQLITE
def test_a_batch_that_is_too_large_for_the_memory_is_made_in_halves(
    resources: Resources,
    sampler: Sampler,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Breaks when requests that would each have fitted fail because they were merged."""

    def small_memory(networks: Any, spec: Any, seeds: list[int], **options: Any) -> Any:
        if len(seeds) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(networks, spec, seeds, **options)

    monkeypatch.setattr(sampling, "generate", small_memory)
    checkpoint = create_checkpoint()
    asked = [ask_images(checkpoint, [seed, seed + 100]) for seed in range(20)]
    sampler.ring()
    assert {row(resources, image_id).status for image_id in asked} == {RequestStatus.SUCCEEDED}


@SQLITE
def test_every_row_is_made_once_however_many_ring(
    resources: Resources, create_checkpoint: Make, ask_images: Make, wait_until: Callable[..., None]
) -> None:
    """Breaks when a ring that finds the loop busy is lost."""
    stopping = threading.Event()
    sampler = Sampler(resources, stopping)
    serving = sampler.serve()
    checkpoint = create_checkpoint()
    asked: list[str] = []
    lock = threading.Lock()

    def order_and_ring() -> None:
        for seed in range(5):
            image_id = ask_images(checkpoint, [seed])
            with lock:
                asked.append(image_id)
            sampler.hear()

    threads = [threading.Thread(target=order_and_ring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def made() -> set[tuple[RequestStatus, int]]:
        return {(found.status, found.attempt) for found in (row(resources, image_id) for image_id in asked)}

    wait_until(lambda: made() == {(RequestStatus.SUCCEEDED, 1)}, "every row is made once")
    stopping.set()
    serving.join(30)
    assert not serving.is_alive()


@SQLITE
def test_images_of_a_checkpoint_that_was_deleted_fail_and_hold_nobody_up(
    resources: Resources, sampler: Sampler, create_checkpoint: Make, ask_images: Make
) -> None:
    """Breaks when a request that cannot be made is claimed again and again, before all that follow it."""
    gone, there = create_checkpoint(), create_checkpoint(generator={"ngf": 4, "nz": 3})
    lost, made = ask_images(gone, [1]), ask_images(there, [1])
    with resources.database.transaction() as session:
        checkpoints.get(session, gone).deleted_at = datetime.now(UTC)
    sampler.ring()
    found = row(resources, lost)
    assert (found.status, found.error and found.error["code"]) == (RequestStatus.FAILED, "checkpoint_deleted")
    assert row(resources, made).status == RequestStatus.SUCCEEDED


@SQLITE
def test_an_outage_of_the_database_does_not_end_the_service(
    resources: Resources,
    create_checkpoint: Make,
    ask_images: Make,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    """Breaks when one failed look leaves a worker that makes no images any more, or loses the ring."""
    stopping, failed = threading.Event(), threading.Event()
    sampler = Sampler(resources, stopping)
    asked = ask_images(create_checkpoint(), [1])

    def fail(*_: object) -> None:
        failed.set()
        raise Unavailable("database_unavailable", "The database did not answer.", hint="Wait.")

    with monkeypatch.context() as patched:
        patched.setattr(images, "claim", fail)
        serving = sampler.serve()
        sampler.hear()
        assert failed.wait(30)
    wait_until(lambda: row(resources, asked).status == RequestStatus.SUCCEEDED, "the images are made")
    stopping.set()
    serving.join(30)
    assert not serving.is_alive()
