"""A coroutine that begins without a task does not notice it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest

from jetq.worker import eager_start
from jetq.worker.eager_start import EagerStarter

pytestmark = pytest.mark.anyio

VALUE: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="none")


class Beginner:
    """Begins coroutines from a callback of the loop, as a worker does, and waits for their end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.steps = EagerStarter(self.loop)

    async def warm(self) -> None:
        """Have a spare task ready."""
        self.begin(nothing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def begin(self, *coros: Coroutine[Any, Any, None]) -> None:
        def now() -> None:
            for coro in coros:
                self.steps.run_eagerly(coro)

        self.loop.call_soon(now)

    async def run(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> list[BaseException | None]:
        """Begin them all in one turn; how each ended, in order."""
        ends: list[asyncio.Future[BaseException | None]] = [self.loop.create_future() for _ in works]

        async def ended(work: Callable[[], Coroutine[Any, Any, None]], end: asyncio.Future[Any]) -> None:
            try:
                await work()
            except BaseException as error:
                end.set_result(error)
            else:
                end.set_result(None)

        self.begin(*(ended(work, end) for work, end in zip(works, ends, strict=True)))
        async with asyncio.timeout(10):
            return [await end for end in ends]


async def nothing() -> None: ...


@pytest.fixture(params=["spare", "task"])
async def beginner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Beginner]:
    """With a spare task at hand (Python 3.12: with eager tasks), and where Python has nothing of the kind."""
    if request.param == "task":
        if sys.version_info >= (3, 12):
            pytest.skip("there are eager tasks")
        monkeypatch.setattr(eager_start, "_enter", None)
    self = Beginner()
    await self.warm()
    yield self
    self.steps.close()
    await asyncio.sleep(0)


async def test_it_ends_without_a_task_if_it_never_waits(beginner: Beginner) -> None:
    before = len(asyncio.all_tasks())
    seen: list[int] = []

    async def work() -> None:
        seen.append(len(asyncio.all_tasks()))

    beginner.begin(*(work() for _ in range(50)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(seen) == 50
    if beginner.steps._can_spare:
        assert set(seen) == {before}


async def test_as_many_as_went_on_to_wait_take_their_first_step_at_once_the_next_time(beginner: Beginner) -> None:
    begun: list[int] = []
    go_on = asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        await go_on.wait()

    beginner.begin(*(work() for _ in range(20)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(begun) == 20
    await asyncio.sleep(0)  # the spares that were made of it are ready now
    at_once: list[int] = []
    coros = [work() for _ in range(20)]

    def now() -> None:
        for coro in coros:
            beginner.steps.run_eagerly(coro)
        at_once.append(len(begun) - 20)

    beginner.loop.call_soon(now)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(begun) == 40
    if beginner.steps._can_spare or sys.version_info >= (3, 12):
        assert at_once == [20]
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_the_task_is_the_same_before_and_after_the_first_wait(beginner: Beginner) -> None:
    tasks: list[tuple[object, object]] = []

    async def work() -> None:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        tasks.append((first, asyncio.current_task()))

    assert await beginner.run(*[work] * 3) == [None] * 3
    assert all(first is second is not None for first, second in tasks)
    assert len({id(first) for first, _ in tasks}) == 3


@pytest.mark.parametrize("wait", [0.0, 0.01], ids=["bare", "future"])
async def test_it_is_cancelled_where_it_waits(beginner: Beginner, wait: float) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.sleep(wait)
        await asyncio.sleep(60)

    ending = asyncio.ensure_future(beginner.run(work))
    while not tasks:
        await asyncio.sleep(0)
    tasks[0].cancel("enough")
    (end,) = await ending
    assert isinstance(end, asyncio.CancelledError) and end.args == ("enough",)


async def test_it_may_cancel_itself_in_its_first_step(beginner: Beginner) -> None:
    inner: list[asyncio.Task[None]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("myself")
        inner.append(asyncio.ensure_future(asyncio.sleep(60)))
        await inner[0]

    async def bare() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError("it went on")

    for each in (work, bare):
        (end,) = await beginner.run(each)
        assert isinstance(end, asyncio.CancelledError)
        await beginner.warm()
    assert inner[0].cancelled()


async def test_what_one_cancels_and_leaves_behind_is_not_the_next_ones(beginner: Beginner) -> None:
    async def careless() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def takes_it_back() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()

    async def work() -> None:
        await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)

    for first in (careless, takes_it_back):
        assert await beginner.run(first, work, work) == [None] * 3
        await beginner.warm()


async def test_timeouts_cancel_scopes_and_groups_work_from_the_first_line(beginner: Beginner) -> None:
    async def times_out() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    async def too_late_already() -> None:
        async with asyncio.timeout(-1):
            await asyncio.sleep(60)

    async def moves_on() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(60)
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(60)
        assert scope.cancelled_caught

    async def groups() -> None:
        done: list[int] = []

        async def add(n: int) -> None:
            done.append(n)

        async with asyncio.TaskGroup() as group:
            group.create_task(add(1))
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(add, 2)
        assert done == [1, 2]

    works = [times_out, too_late_already, moves_on, groups]
    for each in works:  # one by one, so that each takes the spare task along
        (end,) = await beginner.run(each)
        assert isinstance(end, TimeoutError) if each in works[:2] else end is None, each
        await beginner.warm()


async def test_each_has_a_context_of_its_own(beginner: Beginner) -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append(VALUE.get())
        VALUE.set("mine")
        await asyncio.sleep(0)
        seen.append(VALUE.get())
        await asyncio.ensure_future(child())

    async def child() -> None:
        seen.append(VALUE.get())

    async def sets() -> None:
        VALUE.set("of another")

    assert await beginner.run(sets, work, sets) == [None] * 3
    assert seen == ["none", "mine", "mine"]
    assert VALUE.get() == "none"


async def test_errors_go_in_and_out(beginner: Beginner) -> None:
    async def fails_at_once() -> None:
        raise ValueError("at once")

    async def fails_later() -> None:
        try:
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.01)
        except TimeoutError:
            raise KeyError("later") from None

    ends = await beginner.run(fails_at_once, fails_later)
    assert [type(end) for end in ends] == [ValueError, KeyError]


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    self = Beginner()
    await self.warm()
    self.steps.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() == before
