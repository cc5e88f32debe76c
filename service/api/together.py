"""Calls that come while another is under way are made as one: many clients at once, a few transactions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Together(Generic[Asked, Told]):
    """Called with one argument, it has `work` called in a thread with those of all who wait, one result each.

    None joins a call that is under way already: what it is told is never older than its question. An
    exception among the results is raised where it belongs, one that `work` raises everywhere.
    """

    def __init__(self, work: Callable[[list[Asked]], Sequence[Told | Exception]]) -> None:
        self._work = work
        self._waiting: list[tuple[Asked, asyncio.Future[Told]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Told:
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._waiting = []  # those of a loop that has ended
            self._task = loop.create_task(self._work_off(loop))
        told: asyncio.Future[Told] = loop.create_future()
        self._waiting.append((asked, told))
        return await told

    async def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                results = await loop.run_in_executor(None, self._work, [asked for asked, _ in waiting])
            except Exception as error:  # noqa: BLE001  it is raised where it is waited for
                results = [error] * len(waiting)
            for (_, told), result in zip(waiting, results, strict=True):
                if told.done():  # who asked has gone
                    continue
                if isinstance(result, Exception):
                    told.set_exception(result)
                else:
                    told.set_result(result)
