"""Waits without holding a thread or a connection, and stops when the client goes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request

from service.bells import Bell

Seen = TypeVar("Seen")

LOOK_EVERY_SECONDS = 1.0


async def wait_until(
    request: Request,
    bell: Bell,
    seen: Seen,
    look: Callable[[], Awaitable[Seen]],
    done: Callable[[Seen], bool],
    seconds: float,
) -> Seen:
    """What `look` saw last: when it was `done`, when the time was over, or when the client had gone.

    `seen` is what was known before. It looks when the bell rings and, because an announcement can be lost,
    once a second.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        left = deadline - loop.time()
        if done(seen) or left <= 0:
            return seen
        if not await bell(min(left, LOOK_EVERY_SECONDS)) and await request.is_disconnected():
            return seen
        seen = await look()


async def while_connected(request: Request, work: Coroutine[Any, Any, Seen]) -> Seen | None:
    """The result of `work`, which is given up (None) when the client goes."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_EVERY_SECONDS)
            if await request.is_disconnected():
                break
        return task.result() if task.done() else None
    finally:
        task.cancel()
