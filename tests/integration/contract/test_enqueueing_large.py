"""The contract of a broker: what it has taken works with every verb, also when it is as large as allowed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.model.job import Debounce, Delivery, EnqueueReceipt, JobRecord
from jetq.model.names import key_token, keyed_id
from jetq.model.result import ResultRecord
from jetq.operations.dead_letter_files import read_line, write_line
from jetq.operations.dead_letters import edited, revived
from tests.integration.contract.world import QUEUE, World, job, letter, retry_of

pytestmark = pytest.mark.anyio

MAX_PAYLOAD = 1024 * 1024
LIMIT = MAX_PAYLOAD - 32 * 1024
SIZES = [MAX_PAYLOAD * 3 // 4, LIMIT]
"""Bytes of arguments. From three quarters on, what some APIs answer in base64 is longer than any message may be."""

AN_HOUR = 3600.0
TOKEN = key_token("k")


def large(size: int, id: str = "large", *, filled: bytes = b"x") -> JobRecord:
    return job(id, body=filled * size)


def keyed(size: int, id: str, *, filled: bytes = b"x") -> JobRecord:
    return replace(large(size, keyed_id(id, TOKEN), filled=filled), key=TOKEN)


def result(value: bytes) -> ResultRecord:
    return ResultRecord(
        id="large", state="succeeded", task="t", queue=QUEUE, attempt=1, sequence=1, at=5.0, value=Raw(value)
    )


async def handed_out(world: World, size: int) -> tuple[Broker, Delivery]:
    broker = await world.broker()
    await broker.enqueue(large(size))
    return broker, await (await world.feed(broker)).next()


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_found_and_listed_and_removed(world: World, size: int) -> None:
    broker = await world.broker()
    stored = await broker.enqueue(large(size))
    other = await world.broker()

    found = await other.find(QUEUE, "large")
    assert found is not None
    assert len(found.delivery.body) == size
    assert [each.delivery.body for each in await other.stored_jobs(QUEUE)] == [found.delivery.body]
    assert await other.enqueue(large(size)) == EnqueueReceipt(stored.sequence, "large", "existing")
    assert await other.remove(QUEUE, stored.sequence)
    assert await other.find(QUEUE, "large") is None


@pytest.mark.parametrize("size", SIZES)
async def test_its_key_is_known_and_its_place_can_be_taken(world: World, size: int) -> None:
    broker = await world.broker()
    first = keyed(size, "first")
    await broker.enqueue(first, due=world.now() + AN_HOUR)

    again = await broker.enqueue(keyed(size, "second"), due=world.now() + AN_HOUR)
    assert (again.id, again.disposition) == (first.id, "existing")
    instead = keyed(size, "third", filled=b"y")
    taken = await broker.enqueue(instead, due=world.now() + AN_HOUR, debounce=Debounce())
    assert (taken.id, taken.disposition) == (first.id, "replaced")

    found = await broker.find(QUEUE, first.id)
    assert found is not None
    assert found.delivery.body == instead.body


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_moved_and_released(world: World, size: int) -> None:
    broker = await world.broker()
    await broker.enqueue(large(size), due=world.now() + AN_HOUR)
    found = await broker.find(QUEUE, "large")
    assert found is not None
    assert found.due is not None

    assert await broker.move(found, found.due + AN_HOUR)
    moved = await broker.find(QUEUE, "large")
    assert moved is not None
    assert await broker.release(moved)

    delivery = await (await world.feed(broker)).next()
    assert len(delivery.body) == size


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_judged_and_retried_and_given_back(world: World, size: int) -> None:
    broker, first = await handed_out(world, size)

    assert not await broker.is_superseded(first)
    await broker.record_start(first, 1)
    assert await broker.recorded_starts(first) == 1
    assert await broker.reschedule(first, retry_of(first), world.now())
    assert await broker.is_superseded(first)
    broker.finish(first)

    second = await (await world.feed(broker)).next()
    await broker.give_back(second, retry_of(second))
    third = await (await world.feed(broker)).next()
    assert (third.body, third.count) == (first.body, 1)
    assert not await broker.is_superseded(third)


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_buried_exported_and_replayed(world: World, size: int) -> None:
    broker, delivery = await handed_out(world, size)
    await broker.store_dead(delivery, letter(delivery, traceback="x" * 100_000))
    assert await broker.is_superseded(delivery)
    broker.finish(delivery)
    await broker.confirm()
    (entry,) = await broker.dead(QUEUE, id="large")
    assert entry.body == delivery.body

    line = write_line(entry)
    await broker.purge_dead(QUEUE)
    assert await broker.import_dead(read_line(line))
    assert not await broker.import_dead(read_line(line))

    (again,) = await broker.dead(QUEUE)
    assert await broker.replay(again, revived(again))
    assert (await (await world.feed(broker)).next()).body == delivery.body
    assert await broker.dead(QUEUE) == []


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_edited_and_put_off(world: World, size: int) -> None:
    broker, delivery = await handed_out(world, size)
    await broker.store_dead(delivery, letter(delivery))
    broker.finish(delivery)
    await broker.confirm()
    (entry,) = await broker.dead(QUEUE)

    assert await broker.replay(entry, edited(entry, b"y" * size))
    again = await (await world.feed(broker)).next()
    assert again.body == b"y" * size
    await broker.put_off(again, 0.2)
    assert (await (await world.feed(broker)).next()).count == 2


async def test_a_result_as_large_as_a_message_is_kept_and_read_again(world: World) -> None:
    broker = await world.broker()
    room = MAX_PAYLOAD - 1024
    value = b'"%s"' % (b"x" * room)
    waiting = asyncio.create_task(broker.wait_result(QUEUE, "large", 30))

    await broker.put_result(result(value), AN_HOUR)

    for kept in (await broker.get_result(QUEUE, "large"), await broker.wait_result(QUEUE, "large", 30)):
        assert kept is not None
        assert bytes(kept.value) == value
    await world.sleep(0.1)
    assert await waiting is not None
