"""Any mixture of jobs that kill their process, wherever in them they do, and of others beside them; each process is a
worker on an event loop of its own that stops for good at the kill."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq import Jetq, Worker
from jetq.client.client import Client
from jetq.client.session import Session
from jetq.errors import BrokerError
from jetq.memory import FakeClock, MemoryBroker, MemoryStore
from jetq.worker import worker_run
from jetq.worker.attempts import suspects as suspects_module
from tests.unit.properties.examples import examples

LEASE = 30.0
WAVES = 4
ENOUGH = 80
"""Processes. Each killer ends three of them at most."""


@dataclass(frozen=True)
class Planned:
    """A job. kills: where it ends its process; "" nowhere. takes: seconds until it does, or ends. wave: it is enqueued
    before that process starts, from 0."""

    kills: str
    takes: float
    max_crashes: int
    wave: int


@dataclass
class Fleet:
    """The processes of one example, one after another, and what was seen of the jobs."""

    planned: list[Planned]
    store: MemoryStore
    loop: asyncio.AbstractEventLoop | None = None
    dead: bool = False
    starts: defaultdict[int, list[bool]] = field(default_factory=lambda: defaultdict(list))
    """Of each job, whether it was alone among all that ran."""
    running: Counter[int] = field(default_factory=Counter)
    done: Counter[int] = field(default_factory=Counter)

    def kill(self) -> NoReturn:
        """The process is gone: nothing of it has any effect from here on."""
        self.dead = True
        if self.loop is not None:
            self.loop.stop()
        raise _Gone

    def reached(self, n: int, place: str) -> None:
        """Code of job `n` runs."""
        if self.loop is None:  # who enqueues it reads the arguments too
            return
        if self.dead:
            raise _Gone
        if place == "run" or self.planned[n].kills == place:
            self.starts[n].append(not +self.running)
        if self.planned[n].kills == place:
            self.kill()

    async def run(self, n: int) -> None:
        self.reached(n, "run")
        self.running[n] += 1
        try:
            await asyncio.sleep(self.planned[n].takes)
            if self.dead:
                raise _Gone
            if self.planned[n].kills == "later":
                self.kill()
            self.done[n] += 1
        finally:
            self.running[n] -= 1


class _Gone(BaseException):
    """Unwinds what a dead process would have left lying."""


class _Mortal:
    """A broker that a dead process cannot reach any more."""

    def __init__(self, broker: MemoryBroker, fleet: Fleet) -> None:
        self.broker, self._fleet = broker, fleet

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.broker, name)
        if not self._fleet.dead:
            return verb
        if inspect.iscoroutinefunction(verb):
            return _unreachable
        return _ignored if callable(verb) else verb


def _ignored(*_: Any, **__: Any) -> bool:
    return False


async def _unreachable(*_: Any, **__: Any) -> NoReturn:
    raise BrokerError("the process is dead")


FLEETS: list[Fleet] = []
"""The one whose turn it is."""


@dataclass
class Doc:
    n: int

    def __post_init__(self) -> None:
        FLEETS[-1].reached(self.n, "decode")


def _key(n: int, doc: Doc) -> str:
    FLEETS[-1].reached(n, "key")
    return str(n % 2)


def _app() -> Jetq:
    app = Jetq()

    async def work(n: int, doc: Doc) -> None:
        await FLEETS[-1].run(n)

    for crashes in (1, 2, 3):
        app.task(name=f"plain{crashes}", max_crashes=crashes)(work)
        app.task(name=f"keyed{crashes}", max_crashes=crashes, limit=2, limit_per=_key)(work)
    return app


PLANNED = st.builds(
    Planned,
    st.sampled_from(["later", "", "", "", "later", "run", "decode", "key"]),
    st.sampled_from([0.02, 0.005, 0.0]),
    st.sampled_from([3, 2, 1]),
    st.integers(0, WAVES - 1),
)


@examples(10)
@given(st.lists(PLANNED, min_size=6, max_size=12), st.sampled_from([5, 2, 1]))
def test_who_kills_is_dead_after_its_starts_and_nobody_else_is_charged(
    planned: list[Planned], concurrency: int
) -> None:
    """Guarantee: a job that kills its process is dead after `max_crashes` starts, one less if it stood beside another
    that did before its own first; no other job is dead, whatever it ran beside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspects_module, "_LOOK", 0.001)
        patch.setattr(worker_run, "_BURST_POLL", 0.005)
        fleet = Fleet(planned, MemoryStore(FakeClock(), lease=LEASE))
        app = _app()
        dead = _live(fleet, app, concurrency)
    killers = {n for n, each in enumerate(planned) if each.kills}
    assert dead == {n: "crashed" for n in killers}
    assert fleet.done == Counter(n for n in range(len(planned)) if n not in killers)
    for n in killers:
        starts, most = len(fleet.starts[n]), planned[n].max_crashes
        assert max(1, most - 1) <= starts <= most, (n, starts)
        assert fleet.starts[n][-1], f"the last start of {n} was beside others"


def _live(fleet: Fleet, app: Jetq, concurrency: int) -> dict[int, str]:
    """Have one process after another until the queue is empty; reasons of the dead."""
    FLEETS.append(fleet)
    try:
        for life in range(ENOUGH):
            _enqueue(fleet, app, life)
            if _process(fleet, app, concurrency) and life >= WAVES:
                break
        else:
            raise AssertionError("they kill for ever")
    finally:
        FLEETS.pop()
    letters = asyncio.run(MemoryBroker(fleet.store).dead("default"))
    numbers = {f"job-{n}": n for n in range(len(fleet.planned))}
    return {numbers[entry.letter.id]: entry.letter.reason for entry in letters}


def _enqueue(fleet: Fleet, app: Jetq, wave: int) -> None:
    async def enqueue() -> None:
        broker = MemoryBroker(fleet.store)
        app.client = Client(Session(_connecting(lambda: broker)))
        for n, each in enumerate(fleet.planned):
            if each.wave == wave:
                kind = "keyed" if each.kills == "key" or n % 3 == 2 else "plain"
                call = app.call(f"{kind}{each.max_crashes}", {"n": n, "doc": {"n": n}}, id=f"job-{n}")
                await app.aenqueue(call)

    asyncio.run(enqueue())


def _connecting(make: Callable[[], Any]) -> Any:
    async def connect(*, patient: bool = False) -> Any:
        return make()

    return connect


def _process(fleet: Fleet, app: Jetq, concurrency: int) -> bool:
    """Whether it ended by itself, all jobs done. Else it was killed, and its leases have lapsed."""
    brokers: list[_Mortal] = []

    def connect() -> Any:
        brokers.append(_Mortal(MemoryBroker(fleet.store), fleet))
        return brokers[-1]

    fleet.dead, fleet.running = False, Counter()
    app.session = Session(_connecting(connect))
    fleet.loop = loop = asyncio.new_event_loop()
    loop.set_exception_handler(_ignored)
    try:
        worker = Worker(app, queues=["default"], concurrency=concurrency, burst=True, grace=0.0)
        working = loop.create_task(worker.run())
        working.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        assert working.done() or fleet.dead
        ended = not fleet.dead
        _unwind(loop, worker, working)
    finally:
        fleet.loop = None
        loop.close()
    if not ended:
        for broker in brokers:
            asyncio.run(broker.broker.close())
        assert isinstance(fleet.store.clock, FakeClock)
        fleet.store.clock.advance(LEASE + 1)
    return ended


def _unwind(loop: asyncio.AbstractEventLoop, worker: Worker, working: asyncio.Task[None]) -> None:
    """End what is left of the process, without an effect."""
    worker.kill()
    while not working.done():
        for task in asyncio.all_tasks(loop) - {working}:
            task.cancel()
        _run_for(loop, 0.002)


def _run_for(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    loop.call_later(seconds, loop.stop)
    loop.run_forever()
