"""Calls made as one: each is told its own, none an old answer, and none is lost with its neighbours."""

import asyncio
import threading

import pytest

from service.api.together import Together


def test_those_that_come_during_a_call_are_one_call_and_each_is_told_its_own() -> None:
    """Breaks when 32 clients cost 32 transactions, or one is told what another asked."""
    calls: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(asked: list[int]) -> list[int]:
        calls.append(asked)
        begun.set()
        assert go_on.wait(30)
        return [number * number for number in asked]

    async def ask() -> list[int]:
        square = Together(work)
        first = asyncio.ensure_future(square(2))
        await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.ensure_future(square(number)) for number in range(32)]
        await asyncio.sleep(0)
        go_on.set()
        return [await first, *[await other for other in others]]

    assert asyncio.run(ask()) == [4, *[number * number for number in range(32)]]
    assert calls == [[2], list(range(32))], "none joins a call that is under way: its answer would be old"


def test_an_error_is_raised_where_it_belongs() -> None:
    """Breaks when one client's mistake fails the requests of its neighbours."""

    def work(asked: list[int]) -> list[int | Exception]:
        return [ValueError(f"{number}") if number % 2 else number for number in asked]

    async def ask() -> list[int | BaseException]:
        even = Together(work)
        return await asyncio.gather(*map(even, range(4)), return_exceptions=True)

    told = asyncio.run(ask())
    assert [str(one) for one in told] == ["0", "1", "2", "3"]
    assert [isinstance(one, ValueError) for one in told] == [False, True, False, True]


def test_an_error_of_the_call_itself_is_everybodys_and_the_next_call_is_made() -> None:
    """Breaks when an outage of the database leaves clients waiting for ever."""
    fails = [True, False]

    def work(asked: list[int]) -> list[int]:
        if fails.pop(0):
            raise OSError("away")
        return asked

    async def ask() -> None:
        same = Together(work)
        for told in await asyncio.gather(same(1), same(2), return_exceptions=True):
            assert isinstance(told, OSError)
        assert await same(3) == 3

    asyncio.run(ask())


def test_who_goes_away_disturbs_nobody_and_another_event_loop_begins_anew() -> None:
    go_on = threading.Event()

    def work(asked: list[int]) -> list[int]:
        assert go_on.wait(30)
        return asked

    same = Together(work)

    async def leave() -> int:
        gone, stays = asyncio.ensure_future(same(1)), asyncio.ensure_future(same(2))
        await asyncio.sleep(0)
        gone.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await stays

    assert asyncio.run(leave()) == 2
    assert asyncio.run(same(3)) == 3
