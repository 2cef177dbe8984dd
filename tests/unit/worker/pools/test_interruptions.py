"""A call in a thread past its deadline or cancelled: what is raised in the thread hits only that call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from queue import SimpleQueue
from typing import Any

import pytest

from jetq.errors import Interruption, JobInterrupted, JobTimeout
from jetq.worker.pools import threads as pool_module
from jetq.worker.pools.errors import ThreadLost
from tests.apps.pools import (
    LONG,
    Gate,
    MakePool,
    Spinner,
    begin,
    call,
    expire,
    hold_the_loop,
    hold_the_loop_until,
    pools,
)
from tests.apps.spinning import spin

pytestmark = pytest.mark.anyio


@pytest.fixture
def pool(anyio_backend: str) -> Iterator[MakePool]:
    with pools() as make:
        yield make


# --- deadlines


async def test_a_call_past_its_deadline_gets_an_exception(pool: MakePool) -> None:
    one = pool(1)
    spinner = Spinner()
    task = begin(one, spinner)
    await spinner.entered()
    expire(one)
    with pytest.raises(JobTimeout) as caught:
        await task
    assert isinstance(spinner.caught, Interruption)
    assert spinner.caught.error is JobTimeout
    assert caught.traceback[-1].name == "spin", "it tells where the call was"


@pytest.mark.parametrize("caught", [OSError, TimeoutError, Exception])
async def test_nobody_catches_an_interruption_by_accident(pool: MakePool, caught: type[Exception]) -> None:
    """Guarantee: code that catches Exception, or OSError like sockets and retries do, does not swallow a timeout."""
    one = pool(1)
    begun = threading.Event()

    def try_again() -> None:
        while True:
            try:
                begun.set()
                spin()
            except caught:
                continue

    task = begin(one, try_again)
    assert await asyncio.to_thread(begun.wait, LONG)
    expire(one)
    with pytest.raises(JobTimeout):
        await task
    assert one.lost == 0


async def test_an_interruption_that_is_swallowed_comes_again(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: who swallows everything, once or in a loop of events, does not make a job run on for ever."""
    monkeypatch.setattr(pool_module, "_LOST_AFTER", LONG)
    monkeypatch.setattr(pool_module, "_AGAIN_AFTER", 0.01)
    one = pool(1)
    begun = threading.Event()
    swallowed = 0

    def swallow_some() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                begun.set()
                spin()
            except BaseException:
                swallowed += 1
        spin()

    task = begin(one, swallow_some)
    assert await asyncio.to_thread(begun.wait, LONG)
    expire(one)
    with pytest.raises(JobTimeout):
        await task
    assert swallowed == 3
    assert await call(one, int, "5") == 5


async def test_a_loop_of_events_in_a_thread_ends_at_its_deadline(
    pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_AGAIN_AFTER", 0.01)
    one = pool(1)
    begun = threading.Event()

    def loop() -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            waiting = asyncio.get_running_loop().create_future()

            def again() -> None:  # what is raised in a callback is swallowed
                begun.set()
                asyncio.get_running_loop().call_soon(again)

            again()
            await waiting

        asyncio.run(main())

    task = begin(one, loop)
    assert await asyncio.to_thread(begun.wait, LONG)
    expire(one)
    with pytest.raises(JobTimeout):
        await task
    assert one.lost == 0


@pytest.mark.parametrize("how", ["except", "finally", "with", "in another handler"])
async def test_a_cleanup_is_not_interrupted_again(pool: MakePool, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Guarantee: a sync task that cleans up where it catches its interruption has the whole time for that."""
    monkeypatch.setattr(pool_module, "_AGAIN_AFTER", 0.0)
    one = pool(1)
    begun, cleaning, go = threading.Event(), threading.Event(), threading.Event()
    cleaned = False

    def clean_up() -> None:
        nonlocal cleaned
        cleaning.set()
        end = time.monotonic() + LONG
        while not go.is_set() and time.monotonic() < end:
            pass
        cleaned = True

    def clean_up_in_a_handler() -> None:
        try:
            raise ValueError
        except ValueError:
            clean_up()

    def work() -> None:
        if how == "except":
            try:
                begun.set()
                spin()
            except Interruption:
                clean_up()
                raise
        elif how == "finally":
            try:
                begun.set()
                spin()
            finally:
                clean_up()
        else:
            with contextlib.ExitStack() as stack:
                stack.callback(clean_up if how == "with" else clean_up_in_a_handler)
                begun.set()
                spin()

    task = begin(one, work)
    assert await asyncio.to_thread(begun.wait, LONG)
    expire(one)
    assert await asyncio.to_thread(cleaning.wait, LONG)
    for _ in range(5):
        one._watch()
        await asyncio.sleep(0.001)
    go.set()
    with pytest.raises(JobTimeout):
        await task
    assert cleaned


async def test_a_call_within_its_deadline_is_left_alone(pool: MakePool) -> None:
    one = pool(1)
    for _ in range(100):
        assert await call(one, int, "5", within=LONG) == 5


async def test_a_timed_out_call_ends_only_with_its_thread(pool: MakePool) -> None:
    """Guarantee: the next attempt of a timed-out sync task never runs beside it."""
    one = pool(1)
    gate = Gate()
    spinner = Spinner(cleanup=gate)
    task = begin(one, spinner)
    await spinner.entered()
    expire(one)
    await gate.entered()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    gate.go.set()
    assert await task == "through", "what it returned all the same is its value"


async def test_a_call_that_had_no_thread_by_its_deadline_never_begins(pool: MakePool) -> None:
    one = pool(1)
    gate, late = Gate(), Gate()
    first = begin(one, gate)
    await gate.entered()
    with pytest.raises(JobTimeout):
        await call(one, late, within=0.01)
    gate.go.set()
    assert await first == "through"
    assert await call(one, int) == 0
    assert not late.begun.is_set()


async def test_a_thread_that_never_ends_is_given_up_and_replaced(
    pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: a sync task that never ends costs its worker no slot."""
    monkeypatch.setattr(pool_module, "_LOST_AFTER", 0.2)
    one = pool(1)
    gate = Gate()
    stuck = begin(one, gate)
    await gate.entered()
    expire(one)
    waiting = begin(one, threading.current_thread)
    with (
        caplog.at_level(logging.ERROR, "jetq.worker"),
        pytest.raises(ThreadLost, match="did not end within") as lost_it,
    ):
        await stuck
    assert lost_it.value.at_timeout
    assert "a thread is lost" in caplog.text
    assert one.lost == 1
    replacement = await waiting
    assert await call(one, threading.current_thread) is replacement
    (lost,) = (
        thread
        for thread in threading.enumerate()
        if isinstance(thread, pool_module._Thread) and thread.lost and thread.is_alive()
    )
    gate.go.set()
    await asyncio.to_thread(lost.join, LONG)
    assert not lost.is_alive(), "it takes no further call"
    assert await call(one, threading.current_thread) is replacement


async def test_a_thread_that_ended_as_it_was_given_up_is_kept(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_LOST_AFTER", -1.0)
    one = pool(1)
    gate = Gate()
    task = begin(one, gate)
    await gate.entered()
    (running,) = one._calls
    assert one._watcher is not None
    one._watcher.cancel()
    running.interruption = pool_module._TimedOut
    gate.go.set()
    hold_the_loop_until(lambda: bool(one._done))
    one._watch()
    assert await task == "through"
    assert one.lost == 0


# --- cancellation


async def test_a_cancelled_call_ends_with_its_thread(pool: MakePool) -> None:
    spinner = Spinner()
    task = begin(pool(1), spinner)
    await spinner.entered()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(spinner.caught, Interruption)
    assert spinner.caught.error is JobInterrupted


async def test_cancelling_again_does_not_abandon_the_thread(pool: MakePool) -> None:
    gate = Gate()
    spinner = Spinner(cleanup=gate)
    task = begin(pool(1), spinner)
    await spinner.entered()
    task.cancel()
    await gate.entered()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.go.set()
    assert await task == "through"


async def test_a_cleanup_that_fails_is_still_a_cancellation(pool: MakePool) -> None:
    spinner = Spinner(cleanup=lambda: 1 / 0)
    task = begin(pool(1), spinner)
    await spinner.entered()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_ended_before_its_cancellation_arrived_keeps_its_value(pool: MakePool) -> None:
    one = pool(1)
    gate = Gate()
    task = begin(one, gate)
    await gate.entered()
    gate.go.set()
    hold_the_loop_until(lambda: bool(one._done))
    task.cancel()
    assert await task == "through"


async def test_a_timeout_around_the_call_works(pool: MakePool) -> None:
    spinner = Spinner()
    task = begin(pool(1), spinner)
    await spinner.entered()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await task
    assert not isinstance(caught.value, JobTimeout)
    assert isinstance(spinner.caught, Interruption)


async def test_a_cancelled_call_that_had_no_thread_never_begins(pool: MakePool) -> None:
    one = pool(1)
    gate, late = Gate(), Gate()
    first, second = begin(one, gate), begin(one, late)
    await gate.entered()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.go.set()
    assert await first == "through"
    assert await call(one, int) == 0
    assert not late.begun.is_set()


# --- races of an interruption with the end of its call


async def test_an_exception_that_comes_too_late_costs_neither_value_nor_thread(
    pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pool(1)
    thread = await call(one, threading.current_thread)
    run, raised = pool_module._Thread._run, list[bool]()

    def run_and_be_interrupted(self: Any, call: Any) -> None:
        run(self, call)
        call.interrupted_at, call.interruption = time.monotonic(), Interruption
        pool_module._raise_in(self.ident, Interruption)
        for _ in range(1_000):
            divmod(7, 2)
        raised.append(False)

    with monkeypatch.context() as patch:
        patch.setattr(pool_module._Thread, "_run", run_and_be_interrupted)
        assert await call(one, int, "5") == 5
    assert not raised, "the exception must have come for this to prove anything"
    assert await call(one, threading.current_thread) is thread


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What is raised in threads, instead of raising it."""
    raised: list[type[BaseException]] = []

    def raise_in(ident: int | None, error: type[BaseException]) -> None:
        raised.append(error)
        if error is pool_module._Withdrawn:
            raise error

    monkeypatch.setattr(pool_module, "_raise_in", raise_in)
    return raised


def thread_and_call() -> tuple[pool_module._Thread, pool_module._Call]:
    thread = pool_module._Thread(SimpleQueue(), lambda call: None, 1)
    return thread, pool_module._Call(int, (), {}, asyncio.get_running_loop().create_future(), None)


async def test_only_the_current_call_is_interrupted(raised: list[type[BaseException]]) -> None:
    thread, call = thread_and_call()
    thread.interrupt(call, Interruption)
    assert raised == [] and not call.raising
    thread.current = call
    thread.interrupt(call, Interruption)
    assert raised == [Interruption] and not call.raising


async def test_what_is_being_raised_as_the_call_ends_is_awaited_and_withdrawn(
    raised: list[type[BaseException]], monkeypatch: pytest.MonkeyPatch
) -> None:
    thread, call = thread_and_call()
    thread.current = call
    call.interruption, call.raising = Interruption, True

    def the_loop_goes_on(seconds: float) -> None:
        assert thread.current is None, "or the loop would raise after this"
        assert raised == [], "or the withdrawal would come before what it withdraws"
        call.raising = False

    monkeypatch.setattr(time, "sleep", the_loop_goes_on)
    thread._release(call)
    assert not call.raising, "it did not wait"
    assert raised == [pool_module._Withdrawn]


@pytest.mark.parametrize("ends", ["by it", "without it"])
async def test_an_interruption_leaves_nothing_in_the_interpreter(ends: str, pool: MakePool) -> None:
    """Guarantee: after it, other threads run as before. One that is traced would hang on Python 3.11, and all be slower
    on 3.12, if the interpreter went on looking for it."""
    one = pool(1)
    spinner = Spinner(None if ends == "by it" else lambda: 5)
    task = begin(one, spinner)
    await spinner.entered()
    expire(one)
    if ends == "by it":
        with pytest.raises(JobTimeout):
            await task
    else:
        assert await task == 5
    traced: list[str] = []

    def under_a_debugger() -> None:
        sys.settrace(lambda frame, event, arg: traced.append(event))
        int.bit_length(5)
        (lambda: None)()
        sys.settrace(None)

    thread = threading.Thread(target=under_a_debugger, daemon=True)
    thread.start()
    await asyncio.to_thread(thread.join, LONG)
    assert traced, "it stands still"


async def test_an_interruption_hits_its_own_call_alone(pool: MakePool) -> None:
    """Guarantee: a timeout of one job is never raised in the next job of its thread."""
    one = pool(2)
    numbers = count()
    ended: set[int] = set()
    choose = random.Random(11)

    def short() -> int:
        number = next(numbers)
        for _ in range(choose.randrange(60)):
            divmod(7, 2)
        ended.add(number)
        return number

    interrupted = 0
    for _ in range(1_500):
        task = begin(one, short)
        for _ in range(choose.randrange(3)):
            await asyncio.sleep(0)
        hold_the_loop(choose.random() * 2e-5)
        task.cancel()
        try:
            assert await task in ended
        except asyncio.CancelledError:
            interrupted += 1
        assert await call(one, short) in ended, "a call that nobody interrupts returns"
    assert 0 < interrupted < 1_500, "both ends of the race must occur for this to prove anything"
    assert one.threads <= 2
    assert one.lost == 0
