"""A worker's share of a limit: never too many, and everybody's turn comes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import jetq.worker.limits.limit_share as limit_share
from jetq.broker import Broker
from jetq.errors import NotStored
from jetq.memory import MemoryBroker, MemoryStore
from jetq.model.cell import Cell
from jetq.worker.limits.limit_share import LimitShare
from jetq.worker.limits.presence import Presence
from tests.apps.staying import stays_so_for

pytestmark = pytest.mark.anyio

NAME = "slots.tests:mail~-"


class Unreliable:
    """A broker whose writes are lost, or whose answers to writes are."""

    def __init__(self, broker: MemoryBroker, chance: random.Random, share: float) -> None:
        self._broker = broker
        self._chance = chance
        self.share = share

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._broker, verb)

    async def write_cell(self, name: str, value: bytes, **rest: Any) -> int | None:
        await asyncio.sleep(0)
        if name == NAME and self._chance.random() < self.share / 2:
            raise NotStored("lost on the way there")
        version = await self._broker.write_cell(name, value, **rest)
        await asyncio.sleep(0)
        if name == NAME and self._chance.random() < self.share / 2:
            raise NotStored("lost on the way back")
        return version


class Peer:
    """A worker with jobs of one limit: how many run, and how many wait."""

    def __init__(self, fleet: Fleet, broker: Any, limit: int) -> None:
        self.presence = Presence(30.0, 0.5)
        self.fleet = fleet
        self.slots = LimitShare(broker, self.presence, NAME, limit, self._tell)
        self.running = self.waiting = self.ran = 0

    def _tell(self, has: int | None) -> None:
        for other in self.fleet.peers:
            if other is not self:
                other.slots.on_notice(self.presence.name, has)

    async def adjust(self) -> None:
        try:
            await self.slots.adjust(self.running, self.running + self.waiting)
        except NotStored:
            self.fleet.failures += 1

    def start(self) -> None:
        while self.waiting and self.running < self.slots.held:
            self.waiting -= 1
            self.running += 1

    def end(self) -> None:
        self.running -= 1
        self.ran += 1
        if self.slots.fair(self.running, self.running + self.waiting) > self.running:
            self.start()

    async def leave(self) -> None:
        self.waiting = self.running = 0
        while not self.slots.holds_none:
            await self.adjust()


class Fleet:
    """Peers on one store."""

    def __init__(self, count: int, limit: int, *, unreliable: float = 0.0, seed: int = 0) -> None:
        self.store = MemoryStore()
        self.chance = random.Random(seed)
        self.limit = limit
        self.failures = 0
        self.brokers = [Unreliable(MemoryBroker(self.store), self.chance, unreliable) for _ in range(count)]
        self.peers: list[Peer] = []
        self.peers += [Peer(self, broker, limit) for broker in self.brokers]

    @property
    def running(self) -> int:
        return sum(peer.running for peer in self.peers)

    @property
    def held(self) -> int:
        return sum(peer.slots.held for peer in self.peers)

    async def live(self, peer: Peer, steps: int) -> None:
        """Jobs come and go; after each step the sum is looked at."""
        for _ in range(steps):
            peer.waiting += self.chance.choice((0, 0, 1, 3))
            await peer.adjust()
            peer.start()
            assert self.running <= self.held <= self.limit
            await asyncio.sleep(0)
            while peer.running and self.chance.random() < 0.6:
                peer.end()
            assert self.running <= self.held <= self.limit
        await peer.leave()


@pytest.mark.parametrize("unreliable", [0.0, 0.3])
@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
async def test_never_more_than_the_limit_and_nothing_left(
    limit: int, seed: int, unreliable: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(limit_share, "_LEFT_TO_OTHERS_FOR", 0.0)
    fleet = Fleet(4, limit, unreliable=unreliable, seed=seed)
    await asyncio.gather(*(fleet.live(peer, 150) for peer in fleet.peers))
    assert any(peer.ran for peer in fleet.peers)
    assert bool(fleet.failures) == bool(unreliable)
    assert NAME not in fleet.store.cells or fleet.store.cells[NAME].value == b"{}"


async def test_who_is_gone_has_no_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.0)
    fleet = Fleet(2, 3)
    first, second = fleet.peers
    for peer in fleet.peers:
        peer.waiting = 5
        await peer.adjust()
    assert (first.slots.held, second.slots.held) == (3, 0)
    del fleet.store.cells[f"present.{first.presence.name}"]  # its time has passed
    await second.adjust()
    assert second.slots.held == 3


async def test_whose_presence_lapsed_holds_nothing_until_it_has_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.0)
    fleet = Fleet(1, 3)
    (peer,) = fleet.peers
    peer.waiting = 2
    await peer.adjust()
    assert peer.slots.held == 2
    peer.presence._until = 0.0
    assert peer.slots.held == 0
    await peer.adjust()
    assert peer.slots.held == 1  # the old name stands still, and has two
    del fleet.store.cells[next(name for name in fleet.store.cells if name.startswith("present."))]
    await peer.adjust()
    assert peer.slots.held == 2


async def test_what_somebody_else_wrote_there_stops_nobody() -> None:
    fleet = Fleet(1, 3)
    (peer,) = fleet.peers
    broker: Broker = MemoryBroker(fleet.store)
    await broker.write_cell(NAME, b"\xff{")
    peer.waiting = 2
    await peer.adjust()
    assert peer.slots.held == 2


async def _work(fleet: Fleet, seconds: float) -> None:
    """All peers have more to do than they can, a job takes a moment, for so long."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds

    async def work(peer: Peer) -> None:
        while loop.time() < ends:
            peer.waiting = 10
            await peer.adjust()
            peer.start()
            assert fleet.running <= fleet.limit
            await asyncio.sleep(0.002)
            while peer.running:
                peer.end()
                await asyncio.sleep(0)
                if peer.running and peer.slots.held <= peer.running:
                    break
        await peer.leave()

    await asyncio.gather(*(work(peer) for peer in fleet.peers))


async def test_with_fewer_slots_than_workers_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_share, "_STARVES_FOR", 0.05)
    monkeypatch.setattr(limit_share, "_LEFT_TO_OTHERS_FOR", 0.01)
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.05)
    fleet = Fleet(3, 1)
    await _work(fleet, 1.2)
    assert all(peer.ran for peer in fleet.peers), [peer.ran for peer in fleet.peers]


async def test_with_more_slots_than_workers_each_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.05)
    fleet = Fleet(4, 5)
    for peer in fleet.peers:  # the first takes all there are
        peer.waiting = 10
        await peer.adjust()
        peer.start()
    assert fleet.peers[0].slots.held == 5
    for _ in range(20):
        for peer in fleet.peers:
            peer.waiting = 10
            if peer.running:
                peer.end()
            await peer.adjust()
            peer.start()
        await asyncio.sleep(0.02)
    assert min(peer.slots.held for peer in fleet.peers) >= 1


class Late:
    """A broker whose next write or removal of the slots is given up, and arrives when `arrive` is called."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.late = False
        self._pending: list[Any] = []

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._broker, verb)

    def _give_up(self, *what: Any) -> None:
        self._pending.append(what)
        self.late = False
        raise NotStored("no answer in time")

    async def write_cell(self, name: str, value: bytes, **rest: Any) -> int | None:
        if name == NAME and self.late:
            self._give_up("write_cell", (name, value), rest)
        return await self._broker.write_cell(name, value, **rest)

    async def drop_cell(self, cell: Cell) -> bool:
        if self.late:
            self._give_up("drop_cell", (cell,), {})
        return await self._broker.drop_cell(cell)

    async def arrive(self) -> None:
        for verb, args, rest in self._pending:
            await getattr(self._broker, verb)(*args, **rest)


def _slots(broker: Any, limit: int) -> LimitShare:
    return LimitShare(broker, Presence(30.0, 0.5), NAME, limit, lambda has: None)


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_write_that_arrives_late_takes_no_slot_that_is_held_again(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_share, "_LOOK_EVERY", 0.0)
    store = MemoryStore()
    broker = Late(MemoryBroker(store))
    first, second = _slots(broker, 3), _slots(MemoryBroker(store), 3)
    await first.adjust(0, 3)
    broker.late = True
    with pytest.raises(NotStored):
        await first.adjust(kept, kept)
    await first.adjust(kept, 3)  # more jobs have come meanwhile
    await broker.arrive()
    await second.adjust(0, 3)
    assert first.held + second.held <= 3


async def test_a_write_that_arrives_late_leaves_no_slot_behind() -> None:
    store = MemoryStore()
    broker = Late(MemoryBroker(store))
    slots = _slots(broker, 3)
    broker.late = True
    with pytest.raises(NotStored):
        await slots.adjust(0, 3)
    await slots.adjust(0, 0)  # they are not wanted any more
    assert slots.holds_none
    await broker.arrive()
    cell = store.cells.get(NAME)
    assert cell is None or cell.value == b"{}"  # that lapses by itself


async def test_a_sign_of_life_that_lapsed_meanwhile_is_not_valid_again() -> None:
    store = MemoryStore()
    broker, other = MemoryBroker(store), MemoryBroker(store)
    presence = Presence(1.0, 0.1)
    first, second = LimitShare(broker, presence, NAME, 1, lambda has: None), _slots(other, 1)
    await first.adjust(1, 1)
    assert first.held == 1
    write = broker.write_cell

    arrives = asyncio.Event()

    async def slow(name: str, value: bytes, **rest: Any) -> int | None:
        await arrives.wait()
        return await write(name, value, **rest)

    broker.write_cell = slow  # type: ignore[method-assign]
    await stays_so_for(0.5, lambda: presence.valid)
    renewal = asyncio.create_task(presence.renew(broker))
    async with asyncio.timeout(10):
        while await other.read_cell(f"present.{presence.name}") is not None:
            await asyncio.sleep(0.01)
    await second.adjust(0, 1)
    assert second.held == 1
    arrives.set()
    await renewal
    assert first.held == 0
