"""Any order of enqueues, deliveries, settlements, cancels, lapsed leases and replays, with a crash before, between and
after the steps of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.model.job import Delivery
from jetq.model.result import ResultRecord
from jetq.operations.dead_letters import revived
from tests.integration.contract.world import QUEUE, Inbox, MemoryWorld, World, job, letter, retry_of
from tests.unit.properties.examples import examples

LEASE = 30.0
LATER = 5.0

Verb = Literal["finish", "retry", "retry later", "give back", "store dead"]
Crash = Literal["", "before", "between"]


@dataclass(frozen=True)
class Enqueue:
    key: str
    delay: float


@dataclass(frozen=True)
class Take:
    """Have up to three deliveries come."""


@dataclass(frozen=True)
class Settle:
    """What becomes of one of the held. Its worker may die before anything of it is stored, or before the job is
    removed: after that there is nothing to come back."""

    which: int
    verb: Verb
    crash: Crash


@dataclass(frozen=True)
class Cancel:
    """Remove one that stands, be it held or not."""

    which: int


@dataclass(frozen=True)
class Wait:
    """All who hold something die if it is as long as the lease."""

    seconds: float


@dataclass(frozen=True)
class Replay:
    which: int


Step = Enqueue | Take | Settle | Cancel | Wait | Replay

ENQUEUE = st.builds(Enqueue, st.sampled_from(["-", "a", "b"]), st.sampled_from([0.0, LATER]))
TAKE = st.just(Take())
ENDS: list[tuple[Verb, Crash]] = [
    *((verb, crash) for verb in get_args(Verb) for crash in get_args(Crash)),
    ("finish", "between"),
    ("store dead", "between"),
    ("store dead", ""),
]
SETTLE = st.builds(lambda which, end: Settle(which, *end), st.integers(0, 5), st.sampled_from(ENDS))
WAIT = st.builds(Wait, st.sampled_from([1.0, LATER, LATER, LEASE + 1]))
REPLAY = st.builds(Replay, st.integers(0, 3))
CANCEL = st.builds(Cancel, st.integers(0, 5))
STEPS = st.one_of(ENQUEUE, ENQUEUE, TAKE, TAKE, SETTLE, SETTLE, SETTLE, CANCEL, WAIT, REPLAY)


@dataclass
class Model:
    """What must be so. A job is stored, ended, dead or cancelled; `loose` are ended or dead, and their message was not
    yet removed."""

    keys: dict[str, str] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    dead: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)

    def alive(self, id: str) -> bool:
        return id in self.keys and not self.ended[id] and id not in self.dead | self.cancelled

    def stands_for(self, key: str) -> list[str]:
        return [id for id, its in self.keys.items() if its == key != "-" and (self.alive(id) or id in self.loose)]


class Machine:
    """The steps of a worker on a broker, beside the model."""

    def __init__(self, world: World, broker: Broker, inbox: Inbox) -> None:
        self.world, self.broker, self.inbox = world, broker, inbox
        self.model = Model()
        self.held: list[tuple[Delivery, float]] = []
        self.seen = 0

    async def do(self, step: Step) -> None:
        match step:
            case Enqueue(key, delay):
                await self.enqueue(key, delay)
            case Take():
                self.inbox.feed.ask(3)
            case Settle(which, verb, crash):
                if self.held:
                    await self.settle(*self.held.pop(which % len(self.held)), verb, crash)
            case Cancel(which):
                await self.cancel(which)
            case Wait(seconds):
                await self.wait(seconds)
            case Replay(which):
                await self.replay(which)
        await self.hear()

    async def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):  # second by second, because what is handed out on the way arrives at its end
            await self.world.sleep(1.0)
            await self.hear()

    async def enqueue(self, key: str, delay: float) -> None:
        record = replace(job(), key=key)
        stood = self.model.stands_for(key)
        stored = await self.broker.enqueue(record, due=self.world.now() + delay if delay else None)
        if stored.disposition == "new":
            assert stood == []
            self.model.keys[record.id] = key
        else:
            assert stored.id in stood

    async def hear(self) -> None:
        """What a worker does with what has arrived, before it runs it."""
        await asyncio.sleep(0)
        while self.seen < len(self.inbox.deliveries):
            delivery, at = self.inbox.deliveries[self.seen], self.inbox.arrived_at[self.seen]
            self.seen += 1
            if delivery.count > 1 and await self.broker.is_superseded(delivery):
                self.broker.finish(delivery)
                self.model.loose.discard(delivery.id)
                continue
            assert self.model.alive(delivery.id), "it runs after its end"
            assert delivery.id not in [each.id for each, since in self.held if self.valid(since)], (
                "it runs twice at once"
            )
            self.held.append((delivery, at))

    def valid(self, since: float) -> bool:
        return self.world.now() < since + LEASE - 1

    async def settle(self, delivery: Delivery, since: float, verb: Verb, crash: Crash) -> None:
        if not self.valid(since) or crash == "before":
            return
        id, cancelled = delivery.id, delivery.id in self.model.cancelled
        match verb:
            case "finish":
                await self.broker.put_result(result_of(delivery), 3600.0)
                self.model.ended[id] += 1
            case "retry" | "retry later":
                due = self.world.now() + (LATER if verb == "retry later" else 0.0)
                stored = await self.broker.reschedule(delivery, retry_of(delivery), due)
                assert stored is not cancelled
            case "give back":
                if not crash:
                    await self.broker.give_back(delivery, retry_of(delivery))
                return
            case "store dead":
                await self.broker.store_dead(delivery, letter(delivery))
                self.model.dead.add(id)
        if not crash:
            self.broker.finish(delivery)
        elif verb in ("finish", "store dead") and not cancelled:
            self.model.loose.add(id)

    async def cancel(self, which: int) -> None:
        standing = await self.broker.stored_jobs(QUEUE)
        if not standing:
            return
        found = standing[which % len(standing)].delivery
        assert await self.broker.remove(QUEUE, found.sequence)
        if await self.broker.find(QUEUE, found.id) is not None:
            return  # an earlier attempt was removed, which its next one would have removed
        self.model.loose.discard(found.id)
        if self.model.alive(found.id):
            self.model.cancelled.add(found.id)

    async def replay(self, which: int) -> None:
        entries = await self.broker.dead(QUEUE)
        if not entries:
            return
        entry = entries[which % len(entries)]
        stands = entry.letter.id in self.model.loose or self.model.stands_for(entry.letter.key)
        assert await self.broker.replay(entry, revived(entry)) is not bool(stands)
        if not stands:
            self.model.dead.discard(entry.letter.id)
            self.model.cancelled.discard(entry.letter.id)

    async def end(self) -> None:
        """All that is left is run, and then each job has ended once or is dead."""
        quiet = 0
        while quiet < 3:
            before = self.seen
            await self.wait(LEASE + 1)
            self.inbox.feed.ask(100)
            await self.hear()
            while self.held:
                await self.settle(*self.held.pop(), "finish", "")
            quiet = quiet + 1 if self.seen == before else 0
        for id in self.model.keys:
            ended = self.model.ended[id]
            assert ended == 1 or (not ended and id in self.model.dead | self.model.cancelled), id
            assert not (ended and id in self.model.dead), id
        assert sorted(entry.letter.id for entry in await self.broker.dead(QUEUE)) == sorted(self.model.dead)
        info = await self.world.info(self.broker)
        assert (info.ready, info.running, info.scheduled) == (0, 0, 0)


def result_of(delivery: Delivery) -> ResultRecord:
    return ResultRecord(
        id=delivery.id,
        state="succeeded",
        task=delivery.task,
        queue=QUEUE,
        attempt=1,
        sequence=delivery.sequence,
        at=0.0,
    )


@examples(250)
@given(st.lists(STEPS, min_size=15, max_size=60))
def test_no_job_is_lost_runs_after_its_end_or_twice_at_once(steps: list[Step]) -> None:
    """Guarantee: whatever its worker does and wherever it dies, a job ends once, or is dead and nowhere else."""

    async def run() -> None:
        world = MemoryWorld(LEASE)
        broker = await world.broker()
        await broker.setup(QUEUE)
        machine = Machine(world, broker, await world.feed(broker))
        for step in steps:
            await machine.do(step)
        await machine.end()
        await world.close()

    asyncio.run(run())
