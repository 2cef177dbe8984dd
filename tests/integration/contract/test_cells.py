"""The contract of a broker: small values that the fleet shares, and signals."""

from __future__ import annotations

import asyncio

import pytest

from jetq.model.cell import Cell
from tests.integration.contract.world import World

pytestmark = pytest.mark.anyio


async def test_a_cell_is_read_as_it_was_written_last(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.read_cell("slots.tests:mail~-") is None
    first = await broker.write_cell("slots.tests:mail~-", b"one")
    second = await broker.write_cell("slots.tests:mail~-", b"two")
    assert first is not None
    assert second is not None
    assert second > first
    assert await other.read_cell("slots.tests:mail~-") == Cell("slots.tests:mail~-", b"two", second)
    assert await other.read_cell("slots.tests:mail~=a1") is None


async def test_of_many_who_have_read_the_same_one_writes(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    for expected in (0, None):
        if expected is None:
            cell = await broker.read_cell("rate.a")
            assert cell is not None
            expected = cell.version
        writes = (
            each.write_cell("rate.a", f"{expected} {n}".encode(), expected=expected)
            for n, each in enumerate([broker, other] * 20)
        )
        versions = [version for version in await asyncio.gather(*writes) if version is not None]
        assert len(versions) == 1
        cell = await other.read_cell("rate.a")
        assert cell is not None
        assert cell.version == versions[0]


async def test_only_the_version_that_was_read_is_dropped_and_then_there_is_none(world: World) -> None:
    broker = await world.broker()
    old = await broker.write_cell("slots.a", b"1")
    assert old is not None
    new = await broker.write_cell("slots.a", b"2")
    assert new is not None
    assert not await broker.drop_cell(Cell("slots.a", b"1", old))
    assert await broker.drop_cell(Cell("slots.a", b"2", new))
    assert not await broker.drop_cell(Cell("slots.a", b"2", new))
    assert await broker.read_cell("slots.a") is None
    assert await broker.write_cell("slots.a", b"3", expected=new) is None
    assert await broker.write_cell("slots.a", b"3", expected=0) is not None


async def test_a_cell_is_gone_after_its_time(world: World) -> None:
    broker = await world.broker()
    await broker.write_cell("present.a", b"", ttl=0.4)
    await broker.write_cell("present.b", b"", ttl=60)
    assert await broker.read_cell("present.a") is not None
    await world.sleep(2.5)
    assert await broker.read_cell("present.a") is None
    assert await broker.read_cell("present.b") is not None
    assert await broker.write_cell("present.a", b"", expected=0) is not None


async def test_a_cell_that_is_written_again_stands_as_long_as_was_said_last(world: World) -> None:
    broker = await world.broker()
    for name in ("present.renewed", "present.kept", "present.anew"):
        await broker.write_cell(name, b"", ttl=2)
    (kept, anew) = [await broker.read_cell(name) for name in ("present.kept", "present.anew")]
    assert kept is not None
    assert anew is not None
    assert await broker.write_cell("present.kept", b"", expected=kept.version) is not None
    assert await broker.drop_cell(anew)
    assert await broker.write_cell("present.anew", b"", expected=0, ttl=60) is not None
    await world.sleep(1.2)
    await broker.write_cell("present.renewed", b"", ttl=2)
    await world.sleep(1.5)
    for name in ("present.renewed", "present.kept", "present.anew"):
        assert await broker.read_cell(name) is not None, name


async def test_what_is_refused_changes_nothing(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    version = await broker.write_cell("rate.a", b"1")
    assert version is not None
    for expected in (0, version - 1, version + 1):
        assert await other.write_cell("rate.a", b"2", expected=expected, ttl=1) is None
    assert await other.write_cell("rate.b", b"2", expected=version) is None
    assert not await other.drop_cell(Cell("rate.b", b"1", version + 1))
    assert await broker.read_cell("rate.a") == Cell("rate.a", b"1", version)
    assert await broker.read_cell("rate.b") is None


async def test_only_one_token_below_counts(world: World) -> None:
    broker = await world.broker()
    heard: list[str] = []
    await broker.watch_cells("line.a", lambda last, value: heard.append(last))
    for name in ("line.a", "line.a.b.c", "line.ab.c", "line.a.z"):
        await broker.write_cell(name, b"")
    first = await broker.oldest_cell("line.a")
    assert first is not None
    assert first.name == "line.a.z"
    await world.until(lambda: bool(heard), "the one")
    assert heard == ["z"]


async def test_who_is_rewritten_goes_to_the_end(world: World) -> None:
    broker = await world.broker()
    for name in ("line.a.1", "line.a.2", "line.a.1"):
        await broker.write_cell(name, b"")
    first = await broker.oldest_cell("line.a")
    assert first is not None
    assert first.name == "line.a.2"


async def test_the_first_of_a_line_is_the_one_that_was_written_first(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.oldest_cell("line.a") is None
    for name in ("line.a.z", "line.a.m~k", "line.b.a", "line.a.b"):
        assert await broker.write_cell(name, name.encode(), expected=0) is not None
    names = []
    while (cell := await other.oldest_cell("line.a")) is not None:
        assert cell.value == cell.name.encode()
        names.append(cell.name)
        assert await other.drop_cell(cell)
    assert names == ["line.a.z", "line.a.m~k", "line.a.b"]
    assert await other.oldest_cell("line.b") is not None


async def test_who_watches_hears_what_stands_and_what_comes(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.write_cell("pause.a~-", b"1")
    await broker.write_cell("slots.a~-", b"{}")
    heard: list[tuple[str, bytes]] = []
    await other.watch_cells("pause", lambda last, value: heard.append((last, value)))
    assert heard == [("a~-", b"1")]
    await broker.write_cell("pause.b~k", b"2", ttl=60)
    await broker.write_cell("pause.a~-", b"3")
    await world.until(lambda: len(heard) == 3, "both")
    assert heard[1:] == [("b~k", b"2"), ("a~-", b"3")]


async def test_a_signal_reaches_all_who_listen_and_nobody_who_comes_later(world: World) -> None:
    brokers = [await world.broker() for _ in range(3)]
    heard: list[list[bytes]] = [[], [], []]
    await brokers[0].on_signal("limits", heard[0].append)
    await brokers[1].on_signal("limits", heard[1].append)
    await brokers[1].on_signal("else", heard[2].append)
    for broker in brokers[:2]:
        await broker.read_cell("none")  # once this is answered, its interest has arrived too
    await brokers[2].signal("limits", b"now")
    await world.until(lambda: all(heard[:2]), "both")
    await brokers[2].on_signal("limits", heard[2].append)
    await brokers[2].signal("limits", b"then")
    await world.until(lambda: bool(heard[2]), "the third")
    assert heard[2] == [b"then"]
    await world.until(lambda: heard[:2] == [[b"now", b"then"]] * 2, "both again")
