"""The contract of a broker: small values that applications keep beside their jobs."""

from __future__ import annotations

import asyncio

import pytest

from jetq.model.cell import StoredRecord
from tests.integration.contract.world import World

pytestmark = pytest.mark.anyio


async def test_a_record_is_read_as_it_was_written_last(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.read_record("mail.a.b") is None
    first = await broker.write_record("mail.a.b", b"one")
    second = await broker.write_record("mail.a.b", b"two")
    assert first is not None and second is not None and second > first
    read = await other.read_record("mail.a.b")
    assert read is not None
    assert (read.name, read.value, read.version) == ("mail.a.b", b"two", second)
    assert abs(read.at - world.now()) < 60
    assert await other.read_record("mail.a") is None


async def test_of_many_who_have_read_the_same_one_writes(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.setup_records()
    for expected in (0, None):
        if expected is None:
            record = await broker.read_record("mail.a")
            assert record is not None
            expected = record.version
        writes = (
            each.write_record("mail.a", b"%d" % n, expected=expected) for n, each in enumerate([broker, other] * 20)
        )
        assert len([version for version in await asyncio.gather(*writes) if version is not None]) == 1


async def test_only_the_version_that_was_read_is_dropped(world: World) -> None:
    broker = await world.broker()
    old = await broker.write_record("mail.a", b"1")
    new = await broker.write_record("mail.a", b"2")
    assert old is not None and new is not None
    assert not await broker.drop_record(StoredRecord("mail.a", b"1", old, 0.0))
    assert await broker.drop_record(StoredRecord("mail.a", b"2", new, 0.0))
    assert not await broker.drop_record(StoredRecord("mail.a", b"2", new, 0.0))
    assert await broker.read_record("mail.a") is None


async def test_a_record_is_gone_after_its_time_and_one_that_replaced_it_is_not(world: World) -> None:
    broker = await world.broker()
    await broker.write_record("mail.gone", b"1", ttl=1)
    await broker.write_record("mail.stays", b"1", ttl=1)
    await broker.write_record("mail.stays", b"2")
    async with asyncio.timeout(20):
        while await broker.read_record("mail.gone") is not None:
            await world.sleep(0.1)
    stays = await broker.read_record("mail.stays")
    assert stays is not None and stays.value == b"2"


async def test_those_below_a_name_come_as_they_were_written(world: World) -> None:
    broker = await world.broker()
    assert [each async for each in broker.each_record("mail")] == []
    for name in ("mail.b.x", "mail.a", "other.a", "mail.c", "mailing.a", "mail.a"):
        await broker.write_record(name, name.encode())
    assert [each.name async for each in broker.each_record("mail")] == ["mail.b.x", "mail.c", "mail.a"]
    assert [each.name async for each in broker.each_record("mail.b")] == ["mail.b.x"]


async def test_cells_and_records_of_one_name_are_two(world: World) -> None:
    broker = await world.broker()
    await broker.write_cell("mail.a", b"cell")
    await broker.write_record("mail.a", b"record")
    cell, record = await broker.read_cell("mail.a"), await broker.read_record("mail.a")
    assert cell is not None and record is not None
    assert (cell.value, record.value) == (b"cell", b"record")
