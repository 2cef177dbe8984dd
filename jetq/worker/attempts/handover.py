"""Handover of jobs that some workers of a queue cannot run because their code is older. A worker passes such a job to a
worker that can run it, or puts the job off.

A worker that cannot run a job asks a worker that announced itself as able, and hands over the job: nothing is stored
for that. If no known able worker has room, the worker puts the job off and stores what the job needs. Workers that have
the needed code are told, or find the job when they start. They announce that they are able, and make the job ready as
soon as they have room.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.consuming import Consuming
from jetq.broker.fleet import Fleet
from jetq.broker.queues import Queues
from jetq.client.task import Task
from jetq.encoding.headers import OFF_HEADER, Off, off_headers, read_off
from jetq.encoding.json_text import is_too_deep
from jetq.errors import BrokerError
from jetq.model.bounds import check_numbers
from jetq.model.job import Delivery, JobRecord, Level
from jetq.model.outcome import Needs, PutOff
from jetq.runtime.clock import steady
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.needs import has, read_needs
from jetq.worker.intake import Intake
from jetq.worker.leases import Leases

__all__ = ["SETTLED_AFTER", "Handover", "PassOn", "came_back", "keep", "put_off"]

_log = logging.getLogger("jetq.worker")

SETTLED_AFTER = 5.0
"""Seconds after which a worker knows which workers are able: for each job that is put off meanwhile, able workers
announce themselves again."""

_KNOWN_FOR = 90.0
"""Seconds for which a worker counts as able after its announcement. The worker repeats the announcement for each job
that is put off, which happens at least every minute."""

_SAID_FOR = 0.5
"""Seconds in which a worker does not repeat its announcement."""

_ANSWERS_WITHIN = 1.0
"""Seconds for which this worker waits for the answer to an offer."""
_PROMISED_FOR = 5.0
"""Seconds for which a slot is kept for a job whose offer this worker has accepted."""
_COMES_WITHIN = 1.0
"""Seconds within which a job that was made ready has come, to this worker or to another one."""

_ASKED = 2
"""The most workers that are asked to take a job before the job is put off."""

_MOST_WAITING = 1_000
"""The most jobs that this worker remembers as waiting for its room. Further jobs come by themselves, and are announced
anew then."""

_MOST_KNOWN = 500
"""The most entries in each table of announcements, so that announcements cannot fill the memory."""
_LAST_WORDS = 1.0
"""Seconds that handovers under way have to end when the worker ends."""


_TOLD_LONGER = 5.0
"""Seconds for which the needs of a job are stored beyond the time for which the job is put off: until the job is surely
ready again."""

PassOn = Callable[[Attempt, PutOff], Coroutine[Any, Any, bool]]
"""Hands a job that is held here to a worker that can run it. Returns False if no worker takes the job; then this worker
surely still holds it."""


async def keep(_: Attempt, __: PutOff) -> bool:
    """Return False: a PassOn for a worker that knows no other workers."""
    return False


def came_back(delivery: Delivery, off: Off | None = None) -> JobRecord:
    """Return the job to be stored again as it came, byte for byte, together with `off`. Without `off`, keep the
    delivery's own."""
    told = read_off(delivery.headers)
    off = replace(off or told, enqueued=delivery.stored_at if told.enqueued is None else told.enqueued)
    return JobRecord(
        id=delivery.id,
        task=delivery.task,
        queue=delivery.queue,
        body=delivery.body,
        key=delivery.key,
        level=delivery.level,
        as_is=off_headers(delivery.headers, off),
    )


async def put_off(broker: _Storing, worker: str, delivery: Delivery, outcome: PutOff) -> bool:
    """Store a job for later, byte for byte, then tell the workers of its queue: a worker that can run the job fetches
    it. Return False where `Broker.reschedule` does. Raises what `Broker.reschedule` raises."""
    off = Off(since=outcome.since, looks=outcome.looks, by=worker)
    if not await broker.reschedule(delivery, came_back(delivery, off), broker.now() + outcome.after):
        return False
    cell, ttl = f"off.{delivery.queue}.{delivery.id}", outcome.after + _TOLD_LONGER
    try:
        # After the job is stored: a worker that is told earlier would find no job to make ready.
        await broker.write_cell(cell, _encode(outcome.needs), ttl=ttl)
    except BrokerError as error:  # the job comes by itself
        _log.warning("%s %s is put off, and nobody is told: %s", delivery.task, delivery.id, error.message)
    return True


class _Storing(Consuming, Cells, Clock, Protocol):
    """The parts of the broker that store a job for later, and tell of it."""


class _Broker(_Storing, Fleet, Queues, Protocol):
    """The parts of the broker that handovers use."""


class _Able(Struct, array_like=True):
    """An announcement: `worker` can run jobs of `queue` with these `needs`."""

    worker: str
    queue: str
    needs: Needs


class _Offer(Struct, array_like=True):
    """The question whether a worker would take this job now."""

    queue: str
    id: str
    level: Level
    needs: Needs


class _Given(Struct, array_like=True):
    """The message that a job belongs to the receiving worker now. The lease began `age` seconds ago. by:
    `Delivery.handed_out_by`."""

    queue: str
    id: str
    sequence: int
    count: int
    stored_at: float
    token: str
    level: Level
    age: float
    by: str = ""


_encode = msgspec.json.Encoder().encode
_able = msgspec.json.Decoder(_Able).decode
_offer = msgspec.json.Decoder(_Offer).decode
_given = msgspec.json.Decoder(_Given).decode

_YES, _NO = b"1", b"0"


class Handover:
    """One worker's part in handovers.

    tasks: the tasks that the worker can run. intake: the worker's intake. free_slots: returns how many more jobs may
    run now. take: called with a job that belongs to the worker from now on. stopping: set once the worker takes no more
    jobs.

    Guarantee: tests/faults/test_mixed_fleet.py: jobs of a task that most workers do not have go to the one that has it.
    """

    def __init__(
        self,
        broker: _Broker,
        leases: Leases,
        tasks: Mapping[str, Task[..., Any]],
        intake: Intake,
        free_slots: Callable[[], int],
        take: Callable[[Delivery], None],
        stopping: asyncio.Event,
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._tasks = tasks
        self._intake = intake
        self._free = free_slots
        self._take = take
        self._stopping = stopping.is_set
        self._name = secrets.token_hex(6)
        self._since = steady()
        self._workers: dict[tuple[str, Needs], dict[str, float]] = {}
        self._said: dict[tuple[str, Needs], float] = {}
        self._promised: dict[tuple[str, str], float] = {}
        self.coming: dict[tuple[str, str], float] = {}
        """The times by `steady()` until which jobs count as on their way to this worker, by queue and id."""
        self._work: set[asyncio.Task[None]] = set()
        self.waiting: dict[tuple[str, str], None] = {}
        """Queues and ids of jobs that wait for room in this worker."""

    @property
    def settled(self) -> bool:
        """Whether this worker has listened long enough to know which workers are able."""
        return steady() - self._since >= SETTLED_AFTER

    def listen(self, queues: Sequence[str]) -> None:
        """Subscribe to jobs of `queues` that were or will be put off, and to the announcements of workers that can run
        them."""
        self._spawn(self._listen(queues))

    async def _listen(self, queues: Sequence[str]) -> None:
        broker = self._broker
        await broker.on_signal("able", self._on_able)
        await broker.on_signal(f"hand.{self._name}", self._on_given)
        await broker.answer(f"hand.{self._name}", self._on_offer)
        for queue in queues:
            await broker.watch_cells(f"off.{queue}", partial(self._on_off, queue))

    async def close(self) -> None:
        """End the handovers under way; jobs that were given to this worker are taken first. Raises nothing."""
        self.waiting.clear()
        if self._work:
            await asyncio.wait(self._work, timeout=_LAST_WORDS)
        for work in self._work:
            work.cancel()

    # --- jobs that this worker cannot run

    def knows_of(self, queue: str, needs: Needs) -> bool:
        """Return whether a worker is known that can run jobs with such `needs`."""
        return bool(self._known(queue, needs))

    def _known(self, queue: str, needs: Needs) -> list[str]:
        oldest = steady() - _KNOWN_FOR
        return [name for name, said_at in self._workers.get((queue, needs), {}).items() if said_at > oldest]

    def _on_able(self, data: bytes) -> None:
        word = _read(data, _able)
        if word is None or word.queue not in self._intake or word.worker == self._name:
            return
        where = (word.queue, word.needs)
        while len(self._workers) >= _MOST_KNOWN and where not in self._workers:
            self._workers.pop(next(iter(self._workers)))
        said = self._workers.setdefault(where, {})
        while len(said) >= _MOST_KNOWN and word.worker not in said:
            said.pop(next(iter(said)))
        said[word.worker] = steady()

    async def pass_on(self, attempt: Attempt, outcome: PutOff) -> bool:
        """Hand a job that this worker holds to a worker that can run it. Return False if no worker takes the job; then
        this worker still holds it."""
        delivery, needs = attempt.delivery, outcome.needs
        known = self._known(delivery.queue, needs)
        random.shuffle(known)
        for worker in known[:_ASKED]:
            offer = _encode(_Offer(delivery.queue, delivery.id, delivery.level, needs))
            answers = await self._broker.ask(f"hand.{worker}", offer, _ANSWERS_WITHIN, enough=1)
            # The answer took a while: a job that may be another worker's by now must not be given away.
            if attempt.cancelled or not self._leases.valid(delivery):
                return False
            if not answers:
                self._workers.get((delivery.queue, needs), {}).pop(worker, None)
            elif answers[0] == _YES:
                await self._give(worker, delivery)
                return True
        return False

    async def _give(self, worker: str, delivery: Delivery) -> None:
        # From here on the job does not belong to this worker. If the message does not arrive, the lease lapses. Drop
        # the lease before sending the message: if this worker went on renewing the lease, a job that the receiver loses
        # would not come back.
        given = _Given(
            queue=delivery.queue,
            id=delivery.id,
            sequence=delivery.sequence,
            count=delivery.count,
            stored_at=delivery.stored_at,
            token=delivery.token,
            level=delivery.level,
            age=max(0.0, steady() - delivery.since),
            by=delivery.handed_out_by,
        )
        self._leases.drop(delivery)
        _log.debug("%s %s is handed to a worker that can run it", delivery.task, delivery.id)
        try:
            await self._broker.signal(f"hand.{worker}", _encode(given))
        except BrokerError as error:
            _log.warning("%s %s is left to its lease: %s", delivery.task, delivery.id, error.message)

    # --- jobs that other workers cannot run

    def _on_off(self, queue: str, id: str, value: bytes) -> None:
        needs = read_needs(value)
        if needs is None or self._stopping() or not has(self._tasks, needs):
            return
        self._say_able(queue, needs)
        if len(self.waiting) < _MOST_WAITING:
            self.waiting[queue, id] = None
        self.resume()

    def _say_able(self, queue: str, needs: Needs) -> None:
        now = steady()
        if now - self._said.get((queue, needs), 0.0) < _SAID_FOR:
            return
        while len(self._said) >= _MOST_KNOWN:
            self._said.pop(next(iter(self._said)))
        self._said[queue, needs] = now
        self._spawn(self._broker.signal("able", _encode(_Able(self._name, queue, needs))))

    def resume(self) -> None:
        """Call up jobs that wait for room in this worker, because there may be room."""
        while self.waiting and not self._stopping() and self._free_slots() > 0:
            where = next(iter(self.waiting))
            del self.waiting[where]
            self.coming[where] = steady() + _COMES_WITHIN
            self._spawn(self._call(where))

    def _free_slots(self) -> int:
        now = steady()
        for held in (self._promised, self.coming):
            for where in [each for each, until in held.items() if until <= now]:
                del held[where]
        return self._free() - len(self._intake) - len(self._promised) - len(self.coming)

    async def _call(self, where: tuple[str, str]) -> None:
        """Make a job ready that was put off. The job then comes to this worker, or to a worker that hands it on."""
        queue, id = where
        called = False
        try:
            found = await self._broker.find(queue, id)
            if found is not None and found.due is not None and OFF_HEADER in found.delivery.headers:
                called = self._intake.serves(queue, found.delivery.level) and await self._broker.release(found)
        finally:
            if called and self.waiting:
                asyncio.get_running_loop().call_later(_COMES_WITHIN, self.resume)
            elif not called:
                self.coming.pop(where, None)
        if not called:
            self.resume()

    def arrived(self, delivery: Delivery) -> None:
        """Note that a job came to this worker, in whatever way. Call this while some jobs are `coming`."""
        self.coming.pop((delivery.queue, delivery.id), None)

    def _on_offer(self, data: bytes) -> bytes | None:
        offer = _read(data, _offer)
        if offer is None or self._stopping() or not has(self._tasks, offer.needs):
            return _NO
        where = (offer.queue, offer.id)
        self.coming.pop(where, None)
        if not self._intake.serves(offer.queue, offer.level) or self._free_slots() <= 0:
            return _NO
        self._promised[where] = steady() + _PROMISED_FOR
        return _YES

    def _on_given(self, data: bytes) -> None:
        given = _read(data, _given)
        until = None if given is None else self._promised.pop((given.queue, given.id), None)
        if given is not None and until is not None:
            # The job was given after this worker promised to take it, however long the message was on its way: so the
            # lease is at most as old as computed here.
            self._spawn(self._fetch(given, until - _PROMISED_FOR - given.age))

    async def _fetch(self, given: _Given, since: float) -> None:
        found = await self._broker.find(given.queue, given.id)
        if found is None or found.delivery.sequence != given.sequence:
            return  # the job was cancelled, or its lease had lapsed and another worker has the job
        job = found.delivery
        self._take(
            Delivery(
                queue=job.queue,
                task=job.task,
                key=job.key,
                id=job.id,
                body=job.body,
                headers=job.headers,
                sequence=job.sequence,
                count=given.count,
                stored_at=given.stored_at,
                since=since,
                token=given.token,
                address=job.address,
                level=given.level,
                handed_out_by=given.by,
            )
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._try(work), name="jetq-handover")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BrokerError as error:  # a job that was put off comes by itself
            _log.debug("a job that others cannot run: %s", error.message)
        except Exception:  # a fault of jetq's own; the job comes by itself all the same
            _log.exception("a job that others cannot run is left to come by itself")


def _read(data: bytes, decode: Callable[[bytes], Any]) -> Any:
    """Return a message of another worker as `decode` reads it; None if it is not readable: anyone with the permission
    may write there."""
    try:
        word = None if is_too_deep(data) else decode(data)
        if isinstance(word, _Given):
            check_numbers(word, counts=("count",), spans=("age",), times=("stored_at",))
            if not word.token.isprintable() or " " in word.token:
                return None
    except (ValueError, RecursionError):
        return None
    return word
