"""The direct connection of code that is not async: opened when it is wanted, had by one thread at a time, and not
missed for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jetq.broker.enqueueing import DirectConnection
from jetq.client import fast_path
from jetq.client.fast_path import FastPath
from jetq.errors import BrokerUnavailable
from jetq.memory import MemoryBroker
from jetq.model.job import EnqueueReceipt, JobRecord
from jetq.model.names import new_job_id

pytestmark = pytest.mark.anyio

STORED = EnqueueReceipt(1, "x", "new")


def job() -> JobRecord:
    return JobRecord(id=new_job_id(), task="tests.record", queue="default", body=b"{}")


class FakeConnection:
    """Stores everything, after `before`."""

    def __init__(self) -> None:
        self.used = 0
        self.is_open = True
        self.before: Callable[[], None] = lambda: None

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        self.used += 1
        self.before()
        return STORED

    def close(self) -> None:
        self.is_open = False


class FakeBroker(MemoryBroker):
    """Has connections, or an error, or none, one of them for each time it is asked."""

    def __init__(self, *connections: FakeConnection | BrokerUnavailable | None) -> None:
        super().__init__()
        self.connections = list(connections)
        self.asked = 0

    async def open_direct(self) -> DirectConnection | None:  # type: ignore[override]
        self.asked += 1
        await asyncio.sleep(0)
        connection = self.connections.pop(0)
        if isinstance(connection, Exception):
            raise connection
        return connection


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def opened(connection: FakeConnection) -> FastPath:
    direct = FastPath()
    direct.wanted(FakeBroker(connection))
    await soon(lambda: direct.store(job()) is not None)
    return direct


async def test_a_connection_is_opened_once_when_it_is_wanted_and_then_used() -> None:
    direct, broker = FastPath(), FakeBroker(FakeConnection())
    assert direct.store(job()) is None
    for _ in range(3):
        direct.wanted(broker)
    await soon(lambda: direct.store(job()) is STORED)
    direct.wanted(broker)
    await asyncio.sleep(0)
    assert broker.asked == 1
    await direct.aclose()


async def test_one_thread_at_a_time_has_it() -> None:
    direct = await opened(connection := FakeConnection())
    meanwhile: list[EnqueueReceipt | None] = []
    connection.before = lambda: meanwhile.append(direct.store(job()))
    assert direct.store(job()) is STORED
    assert meanwhile == [None]
    await direct.aclose()


async def test_one_that_broke_is_opened_anew_after_a_while() -> None:
    broken, whole = FakeConnection(), FakeConnection()
    direct, broker = FastPath(), FakeBroker(broken, whole)
    direct.wanted(broker)
    await soon(lambda: direct.store(job()) is not None)
    broken.before = broken.close
    direct.store(job())
    assert direct.store(job()) is None

    direct.wanted(broker)
    await asyncio.sleep(0.01)
    assert broker.asked == 1  # not before ten seconds are over

    direct._not_before = 0.0
    direct.wanted(broker)
    await soon(lambda: direct.store(job()) is not None)
    assert whole.used == 1
    await direct.aclose()


@pytest.mark.parametrize("there_is", [BrokerUnavailable("nothing listens"), None])
async def test_where_there_is_none_it_is_not_asked_for_each_time(there_is: BrokerUnavailable | None) -> None:
    direct, broker = FastPath(), FakeBroker(there_is)
    for _ in range(10):
        direct.wanted(broker)
        await asyncio.sleep(0.001)
    assert broker.asked == 1
    assert direct.store(job()) is None
    await direct.aclose()


async def test_one_that_nobody_uses_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "_LOOK_EVERY", 0.05)
    direct = await opened(connection := FakeConnection())
    for _ in range(30):
        await asyncio.sleep(0.01)
        assert direct.store(job()) is STORED
    await soon(lambda: not connection.is_open)
    assert direct.store(job()) is None
    await direct.aclose()


async def test_one_whose_thread_was_interrupted_is_missed_and_another_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "_LOOK_EVERY", 0.02)
    lost, other = FakeConnection(), FakeConnection()
    direct, broker = FastPath(), FakeBroker(lost, other)
    direct.wanted(broker)
    await soon(lambda: direct.store(job()) is not None)

    def interrupted() -> None:
        raise KeyboardInterrupt

    lost.before = interrupted
    with pytest.raises(KeyboardInterrupt):
        direct.store(job())
    assert direct.store(job()) is None

    await soon(lambda: not lost.is_open)
    direct._not_before = 0.0
    direct.wanted(broker)
    await soon(lambda: direct.store(job()) is not None)
    await direct.aclose()


async def test_at_the_end_it_is_closed_wherever_it_is() -> None:
    direct = await opened(idle := FakeConnection())
    await direct.aclose()
    assert not idle.is_open

    direct = await opened(taken := FakeConnection())
    taken.before = lambda: setattr(direct, "_closed", True)
    direct.store(job())
    await direct.aclose()
    assert not taken.is_open
    assert direct.store(job()) is None


async def test_the_end_does_not_wait_for_one_that_is_being_opened() -> None:
    class Slow(MemoryBroker):
        async def open_direct(self) -> None:
            await asyncio.sleep(60)

    direct = FastPath()
    direct.wanted(Slow())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await direct.aclose()
