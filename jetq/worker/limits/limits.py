"""Limits across the fleet: which gates a job passes, lines for those too many to wait in a worker, and pauses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.broker import Broker
from jetq.client.call_keys import call_key
from jetq.client.task import Task
from jetq.encoding.headers import meta_or_default
from jetq.errors import ArgumentError, BrokerError, DefinitionError
from jetq.model.bounds import LATEST
from jetq.model.definitions.rate import Rate
from jetq.model.failure import Failure
from jetq.model.names import NO_KEY, check_queue, key_token
from jetq.model.outcome import Cancelled, Dead, InLine, Outcome, Released, Snoozed
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.limits.gate import Gate
from jetq.worker.limits.limit_share import LimitShare
from jetq.worker.limits.presence import Presence
from jetq.worker.limits.rate_schedule import RateSchedule
from jetq.worker.policy import LONGEST_WAIT

__all__ = ["Limits"]

_log = logging.getLogger("jetq.worker")

_FEW = 20
_FIRST_RETURN, _LAST_RETURN = 15.0, 600.0
"""Seconds after which a job in line comes back by itself, should nobody call it up: as long as it has waited, so that
it comes back a few times and not again and again."""

_LINE_KNOWN = 30 * 86_400.0
"""Seconds for which it is kept that a gate has a line: longer than any job stands in one."""

_MARKED_FOR = 1.0
"""Seconds after which that is written again, with the next job: another worker may have seen the line empty then."""

_LAST_WORDS = 1.0
"""Seconds that a worker which ends has for what it still has to tell the others."""

_TOPIC = "limits"


class GateSpec(Struct, frozen=True):
    """A gate that a job has to pass, and what it may let through."""

    name: str
    limit: int | None = None
    rate: Rate | None = None


Ways = list[GateSpec]


class _SlotNotice(Struct, array_like=True):
    """What a worker tells the others of a gate: that it has only `has` slots and needs more, or that it has let go of
    one (None)."""

    gate: str
    worker: str
    has: int | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_SlotNotice).decode


class Limits:
    """The gates of a worker's `tasks`.

    presence: the worker's. hold: how many jobs may wait here; more go into a line. room: how many more jobs the worker
    may start now. in_time: False where time does not pass by itself: rates are not kept, and no job waits for the end
    of a pause.

    Guarantee: tests/faults/test_limits.py: over several worker processes, also killed ones, never more jobs of a task
    or key run at once than its limit.
    """

    def __init__(
        self,
        broker: Broker,
        presence: Presence,
        tasks: Mapping[str, Task[..., Any]],
        *,
        hold: int,
        room: Callable[[], int],
        in_time: bool = True,
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._limited = {name for name, task in tasks.items() if _is_limited(task)}
        self._tasks = tasks
        self._hold = max(hold, _FEW)
        self._room = room
        self._in_time = in_time
        self._stopping = False
        self._cramped: dict[str, None] = {}
        self._gates: dict[str, Gate] = {}
        self._pauses: dict[str, float] = {}
        self._paused: set[str] = set()
        self._broadcasting: set[asyncio.Task[None]] = set()
        self._lines_seen = 0
        self._listening = False
        self.waiting = 0

    async def listen(self) -> None:
        """Hear from now on of pauses, of lines, also those that stand already, and what other workers say.

        Guarantee: tests/integration/worker/test_limits.py::test_a_line_whose_workers_are_gone_is_found_by_the_next_one.

        Raises BrokerError.
        """
        await self._broker.watch_cells("pause", self._on_pause)
        await self._broker.watch_cells("lines", self._on_line)
        await self._broker.on_signal(_TOPIC, self._on_notice)
        self._listening = True

    def concern(self, attempt: Attempt) -> bool:
        """Whether the job has to `enter`. Most have not."""
        name = attempt.delivery.task
        return name in self._limited or name in self._paused or attempt.meta.unique == "running"

    @property
    def busy(self) -> bool:
        """Whether jobs are to be expected from a line."""
        return any(gate.has_parked for gate in self._gates.values())

    def resume(self) -> None:
        """The worker may start more jobs."""
        for _ in range(len(self._cramped)):  # each once: who still finds no room is the last then
            if self._room() <= 0:
                return
            name = next(iter(self._cramped))
            del self._cramped[name]
            if name in self._gates:
                self._gates[name].resume()

    def stop(self) -> None:
        """Call nobody up any more."""
        self._stopping = True

    async def close(self) -> None:
        """Give back what is held. To be called when nothing runs any more; raises nothing."""
        for gate in list(self._gates.values()):
            gate.close()
        if self._broadcasting:
            await asyncio.wait(self._broadcasting, timeout=_LAST_WORDS)
        for saying in self._broadcasting:
            saying.cancel()
        try:
            await self._presence.withdraw(self._broker)
        except BrokerError as error:
            _log.debug("slots are left to lapse: %s", error.message)

    # --- jobs

    def find(self, attempt: Attempt) -> Ways | Dead:
        """Which gates the job has to pass: its `limit_per` is asked, which may be the user's own code."""
        task = self._tasks[attempt.delivery.task]
        try:
            return self._ways(attempt, task)
        except ArgumentError as error:
            return Dead("bad-arguments", Failure(type="jetq.ArgumentError", message=error.message))
        except BaseException as error:  # what names a key is user code, and must not make the job go round
            return Dead("bad-arguments", attempt.capture(error))

    async def enter(self, attempt: Attempt, ways: Ways | Dead) -> Outcome | None:
        """Wait until the job may be run, none of whose code is called: None, and it must `leave`. Else what becomes of
        it instead. ways: those that were found for it."""
        if isinstance(ways, Dead):
            return ways
        for way in ways:
            outcome = await self._pass(way, attempt)
            if outcome is not None:
                self.leave(attempt)
                return outcome
        if attempt.meta.in_line is not None:
            attempt.meta = replace(attempt.meta, in_line=None)
        return None

    def leave(self, attempt: Attempt) -> None:
        """The job does not run any more."""
        while attempt.gates:
            attempt.gates.pop().leave()

    def _ways(self, attempt: Attempt, task: Task[..., Any]) -> Ways:
        token, options = task.name.replace(".", ":"), task.defaults
        ways = []
        if attempt.meta.unique == "running":
            ways.append(GateSpec(f"{token}~~{attempt.delivery.key}", limit=1))
        if task.name in self._limited or task.name in self._paused:
            rate = options.rate if self._in_time else None
            ways.append(GateSpec(self._gate_name(attempt, task), options.limit, rate))
        return ways

    def _gate_name(self, attempt: Attempt, task: Task[..., Any]) -> str:
        per = task.defaults.limit_per
        key = NO_KEY if per is None else key_token(call_key(per, task.signature, attempt.args, attempt.kwargs))
        return f"{task.name.replace('.', ':')}~{key}"

    async def _pass(self, way: GateSpec, attempt: Attempt) -> Outcome | None:
        # A suspect has its place among the worker's suspects, and is never put into a line: stored anew, it would be
        # none, and what kills its worker would go round.
        suspect = attempt.delivery.count > 1
        gate = self._gate(way)
        gate.has_parked |= attempt.meta.in_line is not None  # whoever knew of the others may be gone
        try:
            if not self._in_time and (paused_for := gate.paused_until - self._broker.now()) > 0:
                return Snoozed(paused_for, attempt.meta)
            if not suspect and self._is_full(gate, way, attempt):
                return self._line_up(gate, attempt)
            attempt.waits_at = gate
            attempt.interruptible = True
            await gate.enter(counted=not suspect, called_up=attempt.meta.in_line is not None)
        except asyncio.CancelledError:
            if not (attempt.released or attempt.cancelled):
                raise
            await attempt.forget_cancellation()
            return Cancelled() if attempt.cancelled else Released()
        finally:
            attempt.interruptible = False
            attempt.waits_at = None
        attempt.gates.append(gate)
        return None

    # --- gates

    def _gate(self, way: GateSpec) -> Gate:
        gate = self._gates.get(way.name)
        if gate is None:
            share = schedule = None
            if way.limit is not None:
                tell = partial(self._tell, way.name)
                share = LimitShare(self._broker, self._presence, f"slots.{way.name}", way.limit, tell)
            if way.rate is not None:
                schedule = RateSchedule(self._broker, f"rate.{way.name}", way.rate)
            gate = self._gates[way.name] = Gate(
                way.name,
                share=share,
                schedule=schedule,
                now=self._broker.now,
                free_slots=partial(self._room_for, way.name),
                on_waiting_change=self._count,
                fetch_parked=partial(self._call_up, way.name),
                on_idle=self._forget,
            )
            gate.paused_until = self._pauses.get(way.name, 0.0)
        return gate

    def _forget(self, gate: Gate) -> None:
        del self._gates[gate.name]

    def _room_for(self, gate: str) -> int:
        room = self._room()
        if room <= 0:
            self._cramped[gate] = None
        return room

    def _count(self, waiting: int) -> None:
        self.waiting += waiting

    def _tell(self, gate: str, has: int | None) -> None:
        self._broadcast(gate, self._broker.signal(_TOPIC, _encode(_SlotNotice(gate, self._presence.name, has))))

    def _broadcast(self, gate: str, notice: Coroutine[Any, Any, object]) -> None:
        saying = asyncio.create_task(self._send(gate, notice))
        self._broadcasting.add(saying)
        saying.add_done_callback(self._broadcasting.discard)

    async def _send(self, gate: str, notice: Coroutine[Any, Any, object]) -> None:
        try:
            await notice
        except BrokerError as error:  # whoever does not hear it looks by itself
            _log.debug("limits of %s: not told: %s", gate, error.message)

    def _on_notice(self, data: bytes) -> None:
        try:
            notice = _decode(data)
        except (ValueError, RecursionError):
            return  # anyone with the permission may write there
        gate = self._gates.get(notice.gate)
        if gate is None or notice.worker == self._presence.name:
            return
        if gate.share is not None:
            gate.share.on_notice(notice.worker, notice.has)
        gate.wake()

    # --- lines

    def _is_full(self, gate: Gate, way: GateSpec, attempt: Attempt) -> bool:
        most = max(_FEW // 2, 4 * (way.limit or 0), 2 * int(way.rate.count / way.rate.period) if way.rate else 0)
        if attempt.meta.in_line is not None:  # it was called up, by somebody who has too few
            most *= 2
        return gate.waiting >= most or (self.waiting >= self._hold and gate.waiting > 0)

    def _line_up(self, gate: Gate, attempt: Attempt) -> InLine:
        now = self._broker.now()
        since, expires = attempt.meta.in_line or now, attempt.meta.expires
        after = min(max(now - since, _FIRST_RETURN), _LAST_RETURN) * random.uniform(0.8, 1.2)
        if expires is not None:
            after = min(after, max(expires - now, 0.0))
        gate.parking += 1
        gate.wake()
        return InLine(after, gate.name)

    def lined_up(self, outcome: InLine) -> None:
        """The job has its place in line now, or none after all."""
        gate = self._gates[outcome.line]
        gate.parking -= 1
        now = asyncio.get_running_loop().time()
        if not gate.has_parked or now - gate.marked_at > _MARKED_FOR:
            gate.has_parked, gate.marked_at = True, now
            mark = self._presence.name.encode()
            self._broadcast(gate.name, self._broker.write_cell(f"lines.{gate.name}", mark, ttl=_LINE_KNOWN))
        gate.wake()

    def _on_line(self, name: str, _: bytes) -> None:
        """There is a line at the gate of that name."""
        self._lines_seen += 1
        gate = self._gates.get(name)
        if gate is None and not self._listening:  # it stood before this worker began, and perhaps no other one is left
            way = self._way_named(name)
            gate = None if way is None else self._gate(way)
        if gate is not None:
            gate.has_parked = True
            gate.wake()

    def _way_named(self, gate: str) -> GateSpec | None:
        token, tilde, key = gate.partition("~")
        task = self._tasks.get(token.replace(":", "."))
        if task is None or not tilde:
            return None
        if key.startswith("~"):
            return GateSpec(gate, limit=1)
        if task.name not in self._limited:
            return None
        return GateSpec(gate, task.defaults.limit, task.defaults.rate if self._in_time else None)

    async def _call_up(self, name: str, missing: int) -> int:
        """Make up to so many jobs ready that stand in line; how many. Raises BrokerError."""
        broker, gate, called = self._broker, self._gates[name], 0
        mark = await broker.read_cell(f"lines.{name}")
        while called < missing and not self._stopping:
            seen = self._lines_seen
            place = await broker.first_cell(f"line.{name}")
            if place is None:
                if seen == self._lines_seen:  # else one may have begun since
                    gate.has_parked = gate.parking > 0
                    if mark is not None and not gate.has_parked:
                        await broker.drop_cell(mark)
                break
            # First out of the line, then ready: whoever dies in between leaves it to come back by itself.
            if not await broker.drop_cell(place):
                continue  # another worker was quicker
            try:
                queue = check_queue(place.value.decode())
            except (DefinitionError, UnicodeDecodeError):
                continue  # not written by jetq
            found = await broker.find(queue, place.name.rpartition(".")[2])
            if found is not None and found.due is not None and meta_or_default(found.delivery.headers).in_line:
                called += await broker.release(found)
        return called

    # --- pauses

    async def pause(self, attempt: Attempt, seconds: float) -> None:
        """Let no job of the task, or of this one's key, be started anywhere for that long."""
        assert attempt.task is not None
        try:
            name = self._gate_name(attempt, attempt.task)
        except BaseException as error:  # see `enter`
            _log.warning("%s is not paused: %s", attempt.name, type(error).__name__)
            return
        try:
            until = self._broker.now() + min(seconds, LONGEST_WAIT)
            if until > self._pauses.get(name, 0.0):
                await self._broker.write_cell(f"pause.{name}", b"%.3f" % until, ttl=seconds + 1.0)
        except BrokerError as error:
            _log.warning("%s is not paused: %s", attempt.name, error.message)

    def _on_pause(self, name: str, value: bytes) -> None:
        try:
            until = float(value)
        except ValueError:
            return  # not written by jetq
        if not 0 <= until <= LATEST:  # nor that
            return
        task = name.partition("~")[0].replace(":", ".")
        left = until - self._broker.now()
        if task not in self._tasks or left <= 0 or until <= self._pauses.get(name, 0.0):
            return
        self._pauses[name] = until
        self._paused.add(task)
        if name in self._gates:
            self._gates[name].paused_until = until
        _log.info("%s is paused for %.1f s", name, left)
        asyncio.get_running_loop().call_later(left, self._end_pause, name)

    def _end_pause(self, name: str) -> None:
        left = self._pauses.get(name, 0.0) - self._broker.now()
        if left > 0:  # a longer one came, or the clock was set back
            asyncio.get_running_loop().call_later(left, self._end_pause, name)
        else:
            self._pauses.pop(name, None)
            self._paused = {each.partition("~")[0].replace(":", ".") for each in self._pauses}


def _is_limited(task: Task[..., Any]) -> bool:
    return task.defaults.limit is not None or task.defaults.rate is not None
