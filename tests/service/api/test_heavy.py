"""Heavy work waits for its turn without the threads that everything else needs."""

import asyncio
import threading

from fastapi.concurrency import run_in_threadpool

from service.api.heavy import in_turn


def test_a_crowd_of_heavy_requests_holds_up_no_other() -> None:
    """Breaks when those that wait for a place sit in the threads of all routes: the API then stands still."""
    go, begun = threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def work(number: int) -> int:
        running.append(number)
        begun.release()
        assert go.wait(60)
        return number

    async def crowd() -> list[int]:
        heavy = [asyncio.ensure_future(in_turn(work, number)) for number in range(100)]
        await run_in_threadpool(begun.acquire)
        assert await asyncio.wait_for(run_in_threadpool(lambda: "quick"), 60) == "quick"
        assert len(running) <= 2
        go.set()
        return await asyncio.gather(*heavy)

    assert asyncio.run(crowd()) == list(range(100))
