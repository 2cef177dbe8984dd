"""Leases: a renewal counts only if it surely reached the broker before the lease had ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from jetq.memory import MemoryBroker, MemoryStore
from jetq.model.job import Delivery, Level, Terms
from jetq.runtime.clock import steady
from jetq.worker.leases import Leases, OnTermsChange
from jetq.worker.limits.presence import Presence

pytestmark = pytest.mark.anyio

LEASE = 1.0


class Far(MemoryBroker):
    """A broker whose answers and whose terms the test decides on."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(lease=LEASE))
        self.stands: Terms | None = Terms(LEASE, "first")
        self.answers = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.asked: list[list[str]] = []

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        self.asked.append([each.token for each in deliveries])
        await self.answers.wait()

    async def terms(self, queue: str, level: Level) -> Terms | None:
        return self.stands


def delivery(sequence: int = 1, **other: Any) -> Delivery:
    return replace(
        Delivery(
            queue="q",
            task="t",
            key="-",
            id=f"job{sequence}",
            body=b"",
            headers={},
            sequence=sequence,
            count=1,
            stored_at=1.0,
            since=steady(),
            token=f"token{sequence}",
            address="a",
            handed_out_by="first",
        ),
        **other,
    )


@asynccontextmanager
async def leases(
    far: Far,
    lease: float = LEASE,
    *,
    before: Callable[[], bool] = lambda: True,
    on_terms_change: OnTermsChange = lambda queue, level, by, lost: None,
) -> AsyncIterator[Leases]:
    """Leases whose thread's broker is `far`; it connects once `before()` holds."""

    async def connect(*, patient: bool = False) -> Far:
        while not before():
            await asyncio.sleep(0.01)
        far.answers, far.loop = asyncio.Event(), asyncio.get_running_loop()
        return far

    far.stands = Terms(lease, "first")
    keeping = Leases(connect, lease, ["q"], on_terms_change=on_terms_change)
    keeping.start()
    try:
        yield keeping
    finally:
        await asyncio.to_thread(keeping.stop)


def let_answer(far: Far) -> None:
    assert far.loop is not None
    far.loop.call_soon_threadsafe(far.answers.set)


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("elsewhere_first", [False, True])
async def test_a_job_that_comes_as_a_new_message_runs_still_if_the_run_before_has_lost_its_lease(
    elsewhere_first: bool,
) -> None:
    async with leases(Far(), 30.0) as held:
        running, other = delivery(1), delivery(2)
        elsewhere = delivery(1, queue="another")  # where the id is another job's
        again, strays = delivery(3, id=running.id), [delivery(n, id="", task="") for n in (4, 5)]
        for each in (*((elsewhere, running) if elsewhere_first else (running, elsewhere)), other, again, *strays):
            assert held.hold(each)
        assert not held.runs_still(again)  # a retry that comes before the first attempt is quite over
        for each in (running, other, strays[0]):
            each.since = -math.inf
        assert held.runs_still(again)
        assert not any(held.runs_still(each) for each in (running, elsewhere, other, *strays))
        held.drop(again)
        assert held.runs_still(again)
        held.drop(running)
        assert not held.runs_still(again)


async def test_a_lease_that_lapsed_before_there_was_a_connection_is_not_renewed() -> None:
    far, connected = Far(), asyncio.Event()
    async with leases(far, 30.0, before=connected.is_set) as held:
        lapsed, fresh = delivery(1, since=steady() - 20), delivery(2, since=steady() - 10)
        held.hold(lapsed)
        held.hold(fresh)
        lapsed.since -= 10  # so long it takes to connect
        since = lapsed.since, fresh.since
        connected.set()
        await until(lambda: far.loop is not None)
        let_answer(far)
        await until(lambda: fresh.since > since[1])

        assert not held.valid(lapsed)
        assert lapsed.since == since[0]
        assert not any("token1" in asked for asked in far.asked)


async def test_a_renewal_that_is_confirmed_too_late_is_none() -> None:
    """It is written while the lease holds, and read when another may have the job."""
    far = Far()
    async with leases(far, 30.0) as held:
        late, fresh = delivery(1, since=steady() - 10), delivery(2, since=steady() - 10)
        held.hold(late)
        held.hold(fresh)
        await until(lambda: far.asked)
        late.since -= 20  # so long it is on its way
        since = late.since, fresh.since
        let_answer(far)
        await until(lambda: fresh.since > since[1])

        assert late.since == since[0]


async def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    far = Far()
    async with leases(far, 30.0) as held:
        kept = delivery(since=steady() - 10)
        held.hold(kept)
        await until(lambda: far.asked)
        asked = steady()
        let_answer(far)
        await until(lambda: kept.since > asked - 5)

        assert kept.since <= asked


async def test_what_is_handed_out_again_goes_on_by_the_newer_delivery() -> None:
    async with leases(Far(), 30.0) as held:
        first = delivery(since=-math.inf)
        assert held.hold(first)
        again = delivery(token="newer", count=2)

        assert not held.hold(again)
        assert held.valid(first)
        assert (first.token, first.since, first.count) == ("newer", again.since, 1)
        held.drop(first)
        assert held.hold(again)


async def test_a_message_of_a_stream_made_anew_is_another_one() -> None:
    async with leases(Far(), 30.0) as held:
        old = delivery()
        held.hold(old)
        new = delivery(stored_at=2.0)

        assert held.hold(new)
        held.drop(old)
        assert not held.hold(delivery(stored_at=2.0))


async def test_what_another_consumer_handed_out_is_lost_until_it_comes_back() -> None:
    far = Far()
    heard: list[tuple[str, Level, str | None, int]] = []
    async with leases(far, 60.0, on_terms_change=lambda *said: heard.append(said)) as held:
        await until(lambda: far.loop is not None)
        let_answer(far)
        one = delivery()
        held.hold(one)
        far.stands = Terms(60.0, "second")
        await until(lambda: not held.valid(one))
        await until(lambda: heard)

        assert heard == [("q", "normal", "second", 1)]
        held.hold(delivery(token="newer", handed_out_by="second"))
        await asyncio.sleep(0)
        assert held.valid(one)
        far.stands = None
        await until(lambda: not held.valid(one))
        await until(lambda: ("q", "normal", None, 1) in heard)


async def test_leases_follow_the_terms_of_the_broker() -> None:
    far = Far()
    async with leases(far, 90.0) as held:
        await until(lambda: far.loop is not None)
        let_answer(far)
        old, young = delivery(1, since=steady() - 60, renew_until=0.0), delivery(2)
        held.hold(old)
        held.hold(young)
        assert held.valid(old)
        far.stands = Terms(45.0, "first")
        await until(lambda: not held.valid(old))
        assert held.valid(young)
        far.stands = Terms(180.0, "first")
        await until(lambda: held.valid(delivery(3, since=steady() - 91)))


async def test_a_renewal_may_have_been_for_the_next_holder() -> None:
    """The server confirms it to anybody (nats-server 2.15.1). So what was not renewed for longer than a shortened lease
    is lost, though it has been renewed since."""
    far = Far()
    async with leases(far, 60.0) as held:
        await until(lambda: far.loop is not None)
        let_answer(far)
        far.stands = Terms(30.0, "first")
        late, young = delivery(1, since=steady() - 40), delivery(2)
        held.hold(late)
        held.hold(young)
        await until(lambda: not held.valid(delivery(3, since=steady() - 31)))
        await until(lambda: not held.valid(late))

        assert held.valid(young)


async def test_a_bound_strikes_when_its_lease_has_ended_and_not_before() -> None:
    async with leases(Far(), 30.0) as held:
        lapses, goes_on, over = (delivery(n) for n in (1, 2, 3))
        for each in (lapses, goes_on, over):
            held.hold(each)
        struck: list[str] = []

        async def wait(each: Delivery) -> None:
            bound = held.bound(each)
            try:
                async with bound:
                    await asyncio.sleep(60)
            except TimeoutError:
                struck.append(each.id)
            finally:
                assert bound.expired() == (each is not over)
                held.unbound(bound)

        waiting = {each.id: asyncio.create_task(wait(each)) for each in (lapses, goes_on, over)}
        await asyncio.sleep(0)
        waiting[over.id].cancel()
        lapses.since = over.since = -math.inf
        await asyncio.wait([waiting[lapses.id], waiting[over.id]])
        assert struck == [lapses.id]
        assert waiting[over.id].cancelled()
        waiting[lapses.id].result()
        assert not waiting[goes_on.id].done()
        goes_on.since = -math.inf  # the timer goes on for those that are left
        await waiting[goes_on.id]
        assert struck == [lapses.id, goes_on.id]


async def test_a_presence_that_is_renewed_too_late_has_lapsed() -> None:
    class Slow(MemoryBroker):
        late = 0.0

        async def write_cell(self, *args: object, **keywords: object) -> int | None:
            await asyncio.sleep(self.late)
            return await super().write_cell(*args, **keywords)  # type: ignore[arg-type]

    broker, presence = Slow(), Presence(1.0, 0.1)
    await presence.establish(broker)
    name, broker.late = presence.name, 1.1
    await presence.renew(broker)

    assert not presence.valid
    broker.late = 0.0
    await presence.establish(broker)
    assert presence.valid
    assert presence.name != name


async def test_a_machine_that_sleeps_loses_its_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is suspended the server's time goes on, and `time.monotonic` does not."""
    async with leases(Far(), 30.0) as held:
        one = delivery()
        held.hold(one)
        assert held.valid(one)
        monkeypatch.setattr("jetq.worker.leases.steady", lambda: steady() + 30.0)

        assert not held.valid(one)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_the_steady_clock_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= steady() <= time.clock_gettime(time.CLOCK_BOOTTIME)
