"""kombu's Redis transport, except that a message which is not one of ours is dropped and ends no worker.

Anything may lie in a Redis list: bytes that are no JSON, JSON that is no message, a message whose fields have
the wrong types. kombu and Celery raise over many of them in the event loop, where the worker ends, or after a
request was counted as reserved, where the worker waits for ever. So a task message is read here, and only its
name, its id, its arguments and its expiry go on.
"""

import base64
import json
import logging
from datetime import datetime
from queue import Empty
from typing import Any

from kombu.transport import redis

logger = logging.getLogger(__name__)


class Channel(redis.Channel):  # type: ignore[misc]  # kombu has no type hints
    """Drops what is not JSON."""

    def _brpop_read(self, **options: Any) -> bool:
        try:
            read: bool = super()._brpop_read(**options)
        except (Empty, *self.connection_errors, *redis.Transport.channel_errors):
            raise
        except Exception as error:  # noqa: BLE001 - whatever reading it raises, the message is gone
            report_dropped(error)
            return True
        return read


class Transport(redis.Transport):  # type: ignore[misc]  # kombu has no type hints
    """Drops what is JSON and no task message. What `celery inspect` asks is published, and passes."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if not any(queue in channel._fanout_queues for channel in self.channels):
            try:
                message = task_message(message, queue)
            except (LookupError, TypeError, ValueError, RecursionError) as error:
                report_dropped(error)
                return
        super()._deliver(message, queue)


def task_message(message: Any, queue: str) -> dict[str, Any]:
    """The same call in a well-formed message; LookupError, TypeError or ValueError if it is no call."""
    headers, properties = message["headers"], message["properties"]
    task, identity, tag = headers["task"], headers["id"], properties["delivery_tag"]
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"], validate=True))
    if message["content-type"] != "application/json":
        raise ValueError("only JSON is read")
    if not (isinstance(task, str) and isinstance(identity, str) and isinstance(tag, str)):
        raise TypeError("the names of its task, its id and its delivery tag have to be strings")
    if not (isinstance(arguments, list) and isinstance(keywords, dict)):
        raise TypeError("the arguments have to be a list and an object")
    return {
        "body": base64.b64encode(json.dumps([arguments, keywords, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": identity,
            "root_id": identity,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": moment(headers.get("expires")),
            "timelimit": [None, None],
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": identity,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }


def moment(text: Any) -> str | None:
    return None if text is None else datetime.fromisoformat(text).isoformat()


def report_dropped(error: Exception) -> None:
    logger.critical("A message that is not for this service was dropped: %s: %s", type(error).__name__, error)
