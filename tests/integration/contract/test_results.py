"""The contract of a broker: results are kept for a while and reach whoever waits for them at once."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec import Raw
from msgspec.structs import replace

from jetq.errors import BrokerError, PayloadTooLarge
from jetq.model.failure import Failure
from jetq.model.result import ResultRecord
from tests.apps.staying import stays_so_for
from tests.integration.contract.world import QUEUE, World

pytestmark = pytest.mark.anyio


def result(id: str, value: bytes = b"5", sequence: int = 1) -> ResultRecord:
    return ResultRecord(
        id=id, state="succeeded", task="tests.add", queue=QUEUE, attempt=1, sequence=sequence, at=1.5, value=Raw(value)
    )


async def test_there_is_no_result_of_an_unknown_job(world: World) -> None:
    assert await (await world.broker()).get_result(QUEUE, "unknown") is None


async def test_a_kept_result_is_read_by_others(world: World) -> None:
    broker, other = await world.broker(), await world.broker()

    await broker.put_result(result("job", value=b'{"total":5}'), 60)

    found = await other.get_result(QUEUE, "job")
    assert found is not None
    assert (found.id, found.state, found.task, found.queue) == ("job", "succeeded", "tests.add", QUEUE)
    assert (found.attempt, found.sequence, found.at, bytes(found.value)) == (1, 1, 1.5, b'{"total":5}')


async def test_a_failure_is_kept_with_its_words(world: World) -> None:
    broker = await world.broker()
    failure = Failure(type="builtins.KeyError", message="'naïve \N{SNOWMAN}'", traceback="...", args=("naïve",))
    record = ResultRecord(
        id="job", state="dead", task="tests.add", queue=QUEUE, attempt=3, sequence=9, at=1.0, failure=failure
    )

    await broker.put_result(record, 60)

    found = await broker.get_result(QUEUE, "job")
    assert found is not None
    assert (found.state, found.failure and found.failure.message) == ("dead", failure.message)


async def test_a_result_is_of_its_queue_though_another_has_a_job_of_that_id(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    mine, theirs = result("job"), replace(result("job"), queue="another", state="cancelled")

    await broker.put_result(mine, 60)
    assert await other.get_result("another", "job") is None
    for queue in (None, QUEUE):
        kept = await other.get_result(queue, "job")
        assert kept is not None
        assert kept.queue == QUEUE
    waiting = asyncio.ensure_future(other.wait_result("another", "job", 10.0))
    await broker.put_result(mine, 60)

    assert await broker.put_result(theirs, 60, unless_kept=True)
    assert not await broker.put_result(theirs, 60, unless_kept=True)
    found = await waiting
    assert found is not None
    assert (found.queue, found.state) == ("another", "cancelled")
    assert await broker.get_result(QUEUE, "job") is None


async def test_a_later_result_takes_the_place_of_the_earlier(world: World) -> None:
    broker = await world.broker()

    await broker.put_result(result("job", sequence=1), 60)
    await broker.put_result(result("job", sequence=2), 60)

    found = await broker.get_result(QUEUE, "job")
    assert found is not None
    assert found.sequence == 2


async def test_whoever_waits_is_told_at_once(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    waiting = [asyncio.ensure_future(each.wait_result(QUEUE, "job", 10.0)) for each in (broker, other, other)]
    elsewhere = asyncio.ensure_future(other.wait_result(QUEUE, "another", 0.5))
    await stays_so_for(0.2, lambda: not any(each.done() for each in waiting))
    start = time.monotonic()

    await broker.put_result(result("job"), 60)

    found = await asyncio.gather(*waiting)
    assert time.monotonic() - start < 2
    assert [each and bytes(each.value) for each in found] == [b"5"] * 3
    assert await elsewhere is None


async def test_waiting_for_what_is_there_ends_at_once(world: World) -> None:
    broker = await world.broker()
    await broker.put_result(result("job"), 60)
    start = time.monotonic()

    found = await (await world.broker()).wait_result(QUEUE, "job", 10.0)

    assert found is not None
    assert time.monotonic() - start < 2


async def test_waiting_in_vain_ends_in_time(world: World) -> None:
    broker = await world.broker()
    start = time.monotonic()

    assert await broker.wait_result(QUEUE, "unknown", 0.3) is None

    assert 0.3 <= time.monotonic() - start < 2


async def test_a_result_is_gone_after_its_time(world: World) -> None:
    broker = await world.broker()
    await broker.put_result(result("brief"), 1.0)
    await broker.put_result(result("long"), 60)
    await world.sleep(0.5)
    assert await broker.get_result(QUEUE, "brief") is not None

    deadline = world.now() + 5
    while await broker.get_result(QUEUE, "brief") is not None:
        assert world.now() < deadline
        await world.sleep(0.1)

    assert await broker.wait_result(QUEUE, "brief", 0.1) is None
    assert await broker.get_result(QUEUE, "long") is not None


async def test_a_result_is_kept_at_least_a_second(world: World) -> None:
    broker = await world.broker()

    await broker.put_result(result("job"), 0.01)
    await world.sleep(0.3)

    assert await broker.get_result(QUEUE, "job") is not None


async def test_a_result_too_large_is_refused(world: World) -> None:
    broker = await world.broker()

    with pytest.raises(PayloadTooLarge):
        await broker.put_result(result("job", value=b'"%s"' % (b"x" * 1024 * 1024)), 60)

    assert await broker.get_result(QUEUE, "job") is None


async def test_a_result_is_sent_without_waiting_and_its_sender_told(world: World) -> None:
    broker = await world.broker()
    await broker.put_result(result("earlier"), 60)
    told: asyncio.Queue[BrokerError | None] = asyncio.Queue()

    assert broker.send_result(result("job"), 60, told.put_nowait)
    assert told.empty()

    assert await told.get() is None
    found = await broker.get_result(QUEUE, "job")
    assert found is not None
    assert bytes(found.value) == b"5"


async def test_a_result_that_cannot_be_sent_at_once_is_not_sent_at_all(world: World) -> None:
    broker = await world.broker()
    await broker.put_result(result("earlier"), 60)
    told: list[BrokerError | None] = []

    assert not broker.send_result(result("job", value=b'"%s"' % (b"x" * 1024 * 1024)), 60, told.append)

    await world.sleep(0.1)
    assert told == []
    assert await broker.get_result(QUEUE, "job") is None
