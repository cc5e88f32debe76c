"""Work that keeps a core, or much memory, for as long as a second: two pieces at a time.

Those that wait for their turn hold none of the threads that every other request needs.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(2, thread_name_prefix="heavy")


async def in_turn(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, once one of the places is free."""
    return await asyncio.wrap_future(_threads.submit(work, *args, **kwargs))
