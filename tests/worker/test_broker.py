"""Whatever lies in Redis, a worker drops it and goes on with what is ours."""

import base64
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from service.records.status import JobStatus
from worker.broker import task_message
from worker.resources import Resources


def body(*arguments: Any) -> str:
    return base64.b64encode(json.dumps(arguments).encode()).decode()


def message(**changed: Any) -> dict[str, Any]:
    """A message as the publisher sends it, with some of its parts changed."""
    return {
        "body": body(["job_1"], {}, {}),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "atelier.train", "id": "1", "eta": None, "expires": None},
        "properties": {"delivery_tag": "1", "body_encoding": "base64"},
        **changed,
    }


def with_headers(**changed: Any) -> dict[str, Any]:
    return message(headers={**message()["headers"], **changed})


MALFORMED = [
    5,
    None,
    [],
    {},
    "text",
    message(headers=None),
    message(headers={}),
    message(properties=None),
    message(properties={"delivery_tag": {"a": 1}}),
    with_headers(task=["atelier.train"]),
    with_headers(id=None),
    with_headers(expires="tomorrow"),
    with_headers(expires=5),
    message(body="!!!"),
    message(body=5),
    message(body=body("job_1", {}, {})),
    message(body=body(["job_1"], [], {})),
    message(body=body(["job_1"])),
    message(**{"content-type": "application/x-python-serialize"}),
]


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: json.dumps(bad)[:60])
def test_a_malformed_message_is_refused(bad: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        task_message(bad, "train")


def test_only_name_id_arguments_and_expiry_go_on() -> None:
    """Breaks when a header could make Celery wait, retry, or call something else afterwards."""
    soon = "2030-01-01T00:00:00+00:00"
    evil = with_headers(eta="2999-01-01T00:00:00", expires=soon, timelimit="x", retries="y", callbacks=[{}])
    evil["body"] = body(["job_1"], {}, {"callbacks": [{"task": "atelier.export"}], "chain": [{}]})
    read = task_message(evil, "train")
    assert json.loads(base64.b64decode(read["body"])) == [["job_1"], {}, {}]
    headers = read["headers"]
    assert (headers["task"], headers["id"], headers["expires"]) == ("atelier.train", "1", soon)
    assert (headers["eta"], headers["retries"], headers["timelimit"]) == (None, 0, [None, None])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARTS = st.sampled_from(["body", "content-type", "headers", "properties"])
FIELDS = st.sampled_from(["task", "id", "expires", "delivery_tag"])


@given(part=PARTS, field=FIELDS, value=JSON)
def test_no_json_at_all_gets_another_exception_out(part: str, field: str, value: Any) -> None:
    """Breaks when a shape that nobody thought of would end the worker."""
    for changed in (message(**{part: value}), message(**{part: {field: value}}), value):
        try:
            assert task_message(changed, "train")["headers"]["task"] == "atelier.train"
        except (LookupError, TypeError, ValueError):
            continue


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_lives_on_after_everything_that_may_lie_in_redis(
    resources: Resources,
    start_worker: Callable[[str], Any],
    submit: Callable[..., str],
    status_of: Callable[[str], JobStatus],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Breaks when a pickle is loaded, or anything in the list ends the worker, or wedges it."""
    proof = tmp_path / "a-pickle-was-loaded"

    class Touch:
        def __reduce__(self) -> Any:
            return (Path.touch, (proof,))

    pickled = pickle.dumps(Touch())
    foreign = message(
        body=base64.b64encode(pickled).decode(), **{"content-type": "application/x-python-serialize"}
    )
    unknown, many = with_headers(task="os.system"), message(body=body([1, 2, 3], {"x": 1}, {}))
    worker = start_worker("train")
    with redis.Redis.from_url(resources.settings.redis_url) as broker:
        for bad in [foreign, unknown, many, with_headers(timelimit="x"), *MALFORMED]:
            broker.lpush("train", json.dumps(bad))
        for raw in (pickled, b"", b"garbage", b"\xff\xfe", b"[" * 100_000, b'{"__type__": "uuid"}'):
            broker.lpush("train", raw)
        job_id = submit()
        wait_until(lambda: status_of(job_id) == JobStatus.SUCCEEDED, "the job behind all that")
        # A message without a job starts the one that waits: it may be done before the rest is read.
        wait_until(lambda: broker.llen("train") == 0, "everything else in the list is read")
        # Each is acknowledged a moment after it is read; else it would come back after the visibility
        # timeout.
        wait_until(lambda: broker.hlen("unacked") == 0, "everything that was read is acknowledged")
    assert worker.process.poll() is None
    assert not proof.exists()
    assert "not for this service" in worker.log
