"""Messages reach their queue as JSON, answers come back, and a Redis that is away costs a second."""

import asyncio
import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import EncodeError

from service.errors import Invalid, Unavailable
from service.queue import TASKS, Publisher, broker_url, client_url, images_channel, reply
from service.records.ids import new_id

DEAD = "redis://:hunter2@127.0.0.1:1/0"


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    made = Publisher(redis_url)
    yield made
    made.close()


@pytest.fixture
def hole() -> Iterator[str]:
    """The address of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def sent(redis_url: str, queue: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(redis_url) as client:
        return [json.loads(message) for message in client.lrange(queue, 0, -1)]  # type: ignore[union-attr] # no await


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_task_goes_to_its_queue_as_json(redis_url: str, publisher: Publisher, task: str) -> None:
    assert publisher.send(task, "id_1", {"n": 1})
    [message] = sent(redis_url, TASKS[task])
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == task
    assert message["headers"]["ignore_result"] is True
    assert message["headers"]["argsrepr"] is not None


def test_a_queue_can_be_named(redis_url: str, publisher: Publisher) -> None:
    assert publisher.send("atelier.train", "job_1", queue="elsewhere")
    assert len(sent(redis_url, "elsewhere")) == 1
    assert sent(redis_url, "train") == []


def test_what_json_cannot_say_is_not_sent(publisher: Publisher) -> None:
    with pytest.raises(EncodeError, match="not JSON serializable"):
        publisher.send("atelier.train", object())


def answer(redis_url: str, queue: str, answers: list[str]) -> threading.Thread:
    """A worker that answers the first question on `queue` with raw `answers`."""

    def work() -> None:
        with redis.Redis.from_url(redis_url) as client:
            message = json.loads(client.blpop([queue], timeout=10)[1])  # type: ignore[index] # no await
            arguments = json.loads(base64.b64decode(message["body"]))[0]
            for one in answers:
                client.lpush(arguments[-1], one)
            assert arguments[:-1] == [{"family": "gan"}]

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_question_is_answered(redis_url: str, publisher: Publisher) -> None:
    worker = answer(redis_url, "sample", ['{"parameters": {"generator": 5}}'])
    found = asyncio.run(publisher.ask("atelier.describe", {"family": "gan"}, timeout=10))
    worker.join()
    assert found == {"parameters": {"generator": 5}}


@pytest.mark.parametrize("nonsense", ["[1]", "not json", "\x80"])
def test_an_answer_that_is_none_counts_as_none(redis_url: str, publisher: Publisher, nonsense: str) -> None:
    worker = answer(redis_url, "sample", [nonsense])
    assert asyncio.run(publisher.ask("atelier.describe", {"family": "gan"}, timeout=10)) is None
    worker.join()


def test_a_worker_replies_and_the_reply_does_not_stay_for_ever(redis_url: str) -> None:
    assert reply(redis_url, "atelier:reply:1", {"key": "a"})
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl("atelier:reply:1") <= 60  # type: ignore[operator] # no await


def test_a_worker_writes_no_other_key_whatever_a_message_says(redis_url: str) -> None:
    with pytest.raises(Invalid, match="train"):
        reply(redis_url, "train", {})


def test_a_question_nobody_answers_ends_in_time_and_is_not_answered_later(
    redis_url: str, publisher: Publisher
) -> None:
    before = time.monotonic()
    assert asyncio.run(publisher.ask("atelier.describe", {}, timeout=0.5)) is None
    assert time.monotonic() - before < 60
    [message] = sent(redis_url, "sample")
    assert message["headers"]["expires"] is not None


def test_who_listens_is_woken_also_by_what_came_between_two_waits(publisher: Publisher) -> None:
    channel = images_channel(new_id("img"))

    async def listen() -> None:
        async with publisher.listen(channel) as bell:
            assert not await bell(0.05)
            assert publisher.announce(channel)
            await asyncio.sleep(0.1)
            assert await bell(60)
            assert not await bell(0.05)
            timer = threading.Timer(1.5, publisher.announce, [channel])
            timer.start()
            assert await bell(60), "a wait longer than the sockets' timeout must go on"
            timer.join()  # who hears may be done before who announces has read Redis's reply

    asyncio.run(listen())


def test_who_waits_hears_its_own_channel_alone(publisher: Publisher) -> None:
    async def wait() -> tuple[bool, bool]:
        async with publisher.listen("one") as one, publisher.listen("two") as two:
            publisher.announce("one")
            return await one(1.5), await two(0.2)

    assert asyncio.run(wait()) == (True, False)


@pytest.mark.parametrize("kind", ["dead", "hole"])
def test_a_redis_that_is_away_costs_a_second_and_raises_nothing(kind: str, hole: str) -> None:
    publisher = Publisher({"dead": DEAD, "hole": hole}[kind])
    channel = "one"
    for use in (
        lambda: publisher.send("atelier.train", "job_1"),
        lambda: publisher.announce(channel),
        lambda: asyncio.run(publisher.ask("atelier.describe", {}, timeout=60)),
    ):
        before = time.monotonic()
        assert not use()
        assert time.monotonic() - before < 30


def test_a_queue_is_idle_when_nothing_waits_in_it(redis_url: str, publisher: Publisher) -> None:
    assert publisher.idle("atelier.train")
    publisher.send("atelier.train", "job_1")
    assert (publisher.idle("atelier.train"), publisher.idle("atelier.prepare")) == (False, True)
    assert not Publisher("unix:///nowhere/redis.sock").idle("atelier.train")


def test_a_wait_without_redis_lasts_its_time_and_does_not_spin() -> None:
    async def wait() -> bool:
        async with Publisher(DEAD).listen("one") as bell:
            return await bell(0.5)

    before = time.monotonic()
    assert not asyncio.run(wait())
    assert 0.45 < time.monotonic() - before < 60


def test_the_check_says_what_to_look_at_and_no_password(redis_url: str) -> None:
    Publisher(redis_url).check()
    with pytest.raises(Unavailable, match="ATELIER_REDIS_URL") as raised:
        Publisher(DEAD).check()
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"


def test_sending_goes_on_when_redis_is_back(tmp_path: Path) -> None:
    """Connections of the time before must not make every later message fail."""
    from tests.conftest import running_redis

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    publisher = Publisher(f"redis://127.0.0.1:{port}/0")
    outcomes = []
    for _ in range(2):
        with running_redis("--port", str(port), "--bind", "127.0.0.1"):
            outcomes.append([publisher.send("atelier.train", "job_1"), publisher.announce("one")])
        outcomes.append([publisher.send("atelier.train", "job_1"), publisher.announce("one")])
    assert outcomes == [[True, True], [False, False], [True, True], [False, False]]


def test_many_threads_share_a_publisher(redis_url: str, publisher: Publisher) -> None:
    threads = [
        threading.Thread(target=lambda: [publisher.send("atelier.train", "job") for _ in range(10)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent(redis_url, "train")) == 80


@pytest.mark.parametrize(
    ("given", "broker", "client"),
    [
        ("redis://:p@h:1/2", "redis://:p@h:1/2", "redis://:p@h:1/2"),
        ("rediss://h/0", "rediss://h/0", "rediss://h/0"),
        ("unix:///a/b.sock?db=3", "redis+socket:///a/b.sock?virtual_host=3", "unix:///a/b.sock?db=3"),
        ("unix:///a/b.sock", "redis+socket:///a/b.sock", "unix:///a/b.sock"),
        ("redis+socket:///a/b.sock?virtual_host=3",) * 2 + ("unix:///a/b.sock?db=3",),
    ],
)
def test_one_address_serves_both_libraries(given: str, broker: str, client: str) -> None:
    assert (broker_url(given), client_url(given)) == (broker, client)


def test_an_address_of_something_else_is_refused_without_repeating_it() -> None:
    with pytest.raises(Invalid, match="redis://") as raised:
        Publisher("amqp://guest:hunter2@h")
    assert "hunter2" not in str(raised.value)


def test_a_process_that_only_sends_loads_no_worker_and_no_torch(redis_url: str) -> None:
    code = (
        "import sys\n"
        "from service import artifacts, errors, queue, settings\n"
        "from service.records import checkpoints, database, datasets, images, jobs, keys, metrics, samples\n"
        "assert queue.Publisher(sys.argv[1]).send('atelier.train', 'job_1')\n"
        "heavy = ('celery.worker', 'celery.concurrency', 'celery.bootsteps', 'celery.apps', 'alembic',\n"
        "         'torch', 'numpy', 'PIL')\n"
        "found = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not found, found\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, redis_url], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
