"""Sync functions in threads: each call ends in one outcome, and threads are made, used again and ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from jetq.errors import JobTimeout
from jetq.worker.pools import threads as pool_module
from jetq.worker.pools.threads import ThreadPool
from tests.apps.pools import (
    LONG,
    Gate,
    MakePool,
    Spinner,
    begin,
    call,
    hold_the_loop_until,
    pools,
)

pytestmark = pytest.mark.anyio

variable = contextvars.ContextVar[str]("variable")


@pytest.fixture
def pool(anyio_backend: str) -> Iterator[MakePool]:
    with pools() as make:
        yield make


# --- values and errors


async def test_a_call_gives_its_value(pool: MakePool) -> None:
    assert await pool(1).run(divmod, (7, 2), {}, deadline=None) == (3, 1)
    assert await pool(1).run(dict, (), {"x": 1}, deadline=None) == {"x": 1}


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, JobTimeout]
)
async def test_a_call_raises_what_its_function_raised(pool: MakePool, error: type[BaseException]) -> None:
    one = pool(1)

    def fail() -> None:
        raise error

    caught = None
    try:
        await call(one, fail)
    except BaseException as raised:
        caught = raised
    assert type(caught) is error
    assert await call(one, int, "5") == 5, "the thread lives on"


async def test_stop_iteration_does_not_break_the_caller(pool: MakePool) -> None:
    with pytest.raises(RuntimeError) as caught:
        await call(pool(1), next, iter(()))
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_the_traceback_leads_to_the_function(pool: MakePool) -> None:
    def innermost() -> None:
        raise ValueError

    with pytest.raises(ValueError) as caught:
        await call(pool(1), innermost)
    assert caught.traceback[-1].name == "innermost"


async def test_a_call_sees_its_context_and_leaves_none_behind(pool: MakePool) -> None:
    one = pool(1)
    variable.set("outer")

    def look_and_set() -> str:
        seen = variable.get()
        variable.set("inner")
        return seen

    assert [await call(one, look_and_set) for _ in range(2)] == ["outer", "outer"]
    assert variable.get() == "outer"


class Thing:
    pass


@pytest.mark.parametrize("fails", [False, True])
async def test_an_ended_call_keeps_nothing_alive(pool: MakePool, fails: bool) -> None:
    one = pool(1)
    thing = Thing()
    alive = weakref.ref(thing)

    def function(thing: Thing) -> None:
        if fails:
            raise ValueError

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await call(one, function, thing)
        del thing
        hold_the_loop_until(lambda: alive() is None)
    finally:
        gc.enable()


# --- threads


async def test_threads_are_made_on_demand_and_used_again(pool: MakePool) -> None:
    one = pool(10)
    assert len({await call(one, threading.get_ident) for _ in range(20)}) == 1
    gates = [Gate() for _ in range(3)]
    tasks = [begin(one, gate) for gate in gates]
    for gate in gates:
        await gate.entered()
        gate.go.set()
    assert await asyncio.gather(*tasks) == ["through"] * 3
    assert one.threads == 3


async def test_no_more_than_size_run_at_once(pool: MakePool) -> None:
    one = pool(2)
    lock, running, most = threading.Lock(), 0, 0

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    await asyncio.gather(*(call(one, enter) for _ in range(50)))
    assert most == 2


async def test_many_calls_end_each_with_their_own_value(pool: MakePool) -> None:
    one = pool(20)
    assert await asyncio.gather(*(call(one, str, n) for n in range(3_000))) == [str(n) for n in range(3_000)]


async def test_a_system_without_threads(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pool(5)
    gate = Gate()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(pool_module._Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await call(one, int)
    first = begin(one, gate)
    await gate.entered()
    with monkeypatch.context() as patch:
        patch.setattr(pool_module._Thread, "start", refuse)
        second = begin(one, int)
        await asyncio.sleep(0)
    gate.go.set()
    assert (await first, await second) == ("through", 0)


async def test_close_ends_the_threads_after_their_calls(pool: MakePool) -> None:
    before = set(threading.enumerate())
    one = pool(3)
    gates = [Gate() for _ in range(3)]
    tasks = [begin(one, gate) for gate in gates]
    for gate in gates:
        await gate.entered()
    threads = set(threading.enumerate()) - before
    mine = [thread for thread in threads if thread.name.startswith("jetq-task-")]
    assert len(mine) == 3
    one.close()
    for gate in gates:
        gate.go.set()
    assert await asyncio.gather(*tasks) == ["through"] * 3
    for thread in mine:
        await asyncio.to_thread(thread.join, LONG)
        assert not thread.is_alive()


def test_a_stuck_thread_does_not_keep_the_process() -> None:
    script = """
import asyncio, threading
from jetq.worker.pools.threads import ThreadPool
async def main():
    pool, begun = ThreadPool(1), threading.Event()
    def stuck():
        begun.set()
        threading.Event().wait()
    asyncio.ensure_future(pool.run(stuck, (), {}, deadline=None))
    await asyncio.to_thread(begun.wait)
    pool.close()
    import os; loop = asyncio.get_running_loop(); loop.stop()
try:
    asyncio.new_event_loop().run_until_complete(main())
except RuntimeError:
    pass
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG)
    assert done.stdout == "ended\n", done.stderr
    assert done.returncode == 0


def test_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        one = ThreadPool(4)
        assert await asyncio.gather(*(call(one, str, n) for n in range(500))) == [str(n) for n in range(500)]
        with pytest.raises(JobTimeout):
            await call(one, Spinner(), within=0.01)
        one.close()

    uvloop.run(main())
