"""The gates of a worker: which gates a job passes before its start, and which jobs wait or run at each gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.queues import Queues
from jetq.client.call_keys import call_key
from jetq.client.task import Task
from jetq.errors import ArgumentError, BrokerError
from jetq.model.definitions.rate import Rate
from jetq.model.names import NO_KEY, key_token
from jetq.model.outcome import Dead, InLine, Outcome, Snoozed, dead
from jetq.worker.attempt import Attempt, outcome_without_run
from jetq.worker.limits.gate import Gate
from jetq.worker.limits.limit_share import LimitShare
from jetq.worker.limits.notices import Notices, SlotNotice
from jetq.worker.limits.parking import Parking
from jetq.worker.limits.pauses import Pauses
from jetq.worker.limits.presence import Presence
from jetq.worker.limits.rate_schedule import RateSchedule

__all__ = ["Limits"]

_log = logging.getLogger("jetq.worker")

_MIN_WAITING = 20
"""The least number of jobs that may wait in a worker before any job is parked, and twice the least number at one gate.
The number of slots does not lower this bound."""


class GateSpec(Struct, frozen=True):
    """A gate that a job has to pass, with the gate's limit and rate; None means no such bound."""

    name: str
    limit: int | None = None
    rate: Rate | None = None


class _Broker(Cells, Queues, Clock, Protocol):
    """The parts of the broker that the limits use."""


class Limits:
    """The gates of a worker's `tasks`.

    presence: the presence of the worker. hold: how many jobs may wait in this worker; further jobs are parked. room:
    returns how many more jobs the worker may start now. in_time: False where time does not pass by itself: then rates
    are not kept, and no job waits for the end of a pause.

    Guarantee: tests/faults/test_limits.py: over several worker processes, also killed ones, never more jobs of a task
    or key run at once than its limit.
    """

    def __init__(
        self,
        broker: _Broker,
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
        self._hold = max(hold, _MIN_WAITING)
        self._room = room
        self._in_time = in_time
        self._cramped: dict[str, None] = {}
        self._gates: dict[str, Gate] = {}
        self._pauses = Pauses(broker, tasks, self._on_pause)
        self._notices = Notices(broker, presence, self._on_notice)
        self._parking = Parking(
            broker, self._notices, signature=lambda: presence.name, find_gate=self._gate_with_parked_jobs
        )
        self._listening = False
        self.waiting = 0

    async def listen(self) -> None:
        """Subscribe to pauses, to parked jobs, which may exist already, and to the notices of other workers.

        Guarantee: tests/integration/worker/test_limits.py::test_a_line_whose_workers_are_gone_is_found_by_the_next_one.

        Raises BrokerError.
        """
        await self._pauses.listen()
        await self._parking.listen()
        await self._notices.listen()
        self._listening = True

    def concern(self, attempt: Attempt) -> bool:
        """Return whether the job has to `enter` before its start. Most jobs have not."""
        name = attempt.delivery.task
        return name in self._limited or self._pauses.concern(name) or attempt.meta.unique == "running"

    @property
    def gates(self) -> Mapping[str, Gate]:
        """The gates at which jobs wait or run, by name."""
        return self._gates

    @property
    def busy(self) -> bool:
        """Whether parked jobs may still come to this worker."""
        return any(gate.has_parked for gate in self._gates.values())

    def resume(self) -> None:
        """Admit waiting jobs, because the worker may start more jobs."""
        # Each gate once: a gate that finds no free slot again goes to the end of the list.
        for _ in range(len(self._cramped)):
            if self._room() <= 0:
                return
            name = next(iter(self._cramped))
            del self._cramped[name]
            if name in self._gates:
                self._gates[name].resume()

    def stop(self) -> None:
        """Call up no more jobs."""
        self._parking.stop()

    async def close(self) -> None:
        """Give back the slots that this worker holds of limits. Raises nothing. Call this when no job runs any more."""
        for gate in list(self._gates.values()):
            gate.close()
        await self._notices.close()
        try:
            # After the gates are closed: without the presence other workers take the slots at once.
            await self._presence.withdraw(self._broker)
        except BrokerError as error:
            _log.debug("slots are left to lapse: %s", error.message)

    # --- jobs

    def find(self, attempt: Attempt) -> list[GateSpec] | Dead:
        """Return which gates the job has to pass, or Dead if the gates cannot be told.

        This asks the task's `limit_per`, which may be the user's own code.
        """
        task = self._tasks[attempt.delivery.task]
        try:
            return self._specs(attempt, task)
        except ArgumentError as error:
            return dead("bad-arguments", "jetq.ArgumentError", error.message)
        # The function that names a key is user code, and its errors must not make the job go round.
        except BaseException as error:
            return Dead("bad-arguments", attempt.capture(error))

    async def enter(self, attempt: Attempt, specs: list[GateSpec] | Dead) -> Outcome | None:
        """Wait until the job may start. No code of the job is called meanwhile.

        specs: the gates that `find` returned. Returns None when the job may start, and then the job must `leave`.
        Otherwise returns the outcome that takes the place of the start.
        """
        if isinstance(specs, Dead):
            return specs
        for spec in specs:
            outcome = await self._pass(spec, attempt)
            if outcome is not None:
                self.leave(attempt)
                return outcome
        if attempt.meta.in_line is not None:
            attempt.meta = replace(attempt.meta, in_line=None)
        return None

    def leave(self, attempt: Attempt) -> None:
        """Note that the job does not run any more."""
        while attempt.gates:
            attempt.gates.pop().leave()

    def lined_up(self, outcome: InLine) -> None:
        """Note that the job is parked now, or could not be parked."""
        self._parking.parked(self._gates[outcome.line])

    async def pause(self, attempt: Attempt, seconds: float) -> None:
        """Let no job of the task, or of this job's key, start in any worker for `seconds`."""
        assert attempt.task is not None
        try:
            name = self._gate_name(attempt, attempt.task)
        except BaseException as error:  # see `find`
            _log.warning("%s is not paused: %s", attempt.name, type(error).__name__)
            return
        try:
            await self._pauses.begin(name, seconds)
        except BrokerError as error:
            _log.warning("%s is not paused: %s", attempt.name, error.message)

    async def _pass(self, spec: GateSpec, attempt: Attempt) -> Outcome | None:
        # A suspect has its slot among the worker's suspects, and is never parked: a parked job is stored anew and would
        # be no suspect any more, so a job that kills its worker would go round.
        suspect = attempt.delivery.count > 1
        gate = self._gate(spec)
        gate.has_parked |= attempt.meta.in_line is not None  # the worker that knew of the other parked jobs may be gone
        try:
            if not self._in_time and (paused_for := gate.paused_until - self._broker.now()) > 0:
                return Snoozed(paused_for, attempt.meta)
            if not suspect and self._is_full(gate, spec, attempt):
                return self._parking.park(gate, attempt.meta)
            attempt.waits_at = gate
            if not await attempt.wait(gate.enter(counted=not suspect, called_up=attempt.meta.in_line is not None)):
                return outcome_without_run(attempt.ending)
        finally:
            attempt.waits_at = None
        attempt.gates.append(gate)
        return None

    def _is_full(self, gate: Gate, spec: GateSpec, attempt: Attempt) -> bool:
        rate = 0 if spec.rate is None else 2 * int(spec.rate.count / spec.rate.period)
        # Four jobs for each slot of the limit, or the jobs of two seconds of the rate.
        most = max(_MIN_WAITING // 2, 4 * (spec.limit or 0), rate)
        if attempt.meta.in_line is not None:  # a worker with too few waiting jobs has called this job up
            most *= 2
        return gate.waiting >= most or (self.waiting >= self._hold and gate.waiting > 0)

    # --- gates

    def _specs(self, attempt: Attempt, task: Task[..., Any]) -> list[GateSpec]:
        specs = []
        if attempt.meta.unique == "running":
            specs.append(GateSpec(f"{task.name.replace('.', ':')}~~{attempt.delivery.key}", limit=1))
        if task.name in self._limited or self._pauses.concern(task.name):
            specs.append(self._spec(self._gate_name(attempt, task), task))
        return specs

    def _spec(self, gate: str, task: Task[..., Any]) -> GateSpec:
        return GateSpec(gate, task.declared.limit, task.declared.rate if self._in_time else None)

    def _gate_name(self, attempt: Attempt, task: Task[..., Any]) -> str:
        per = task.declared.limit_per
        key = NO_KEY if per is None else key_token(call_key(per, task.signature, attempt.args, attempt.kwargs))
        return f"{task.name.replace('.', ':')}~{key}"

    def _spec_named(self, gate: str) -> GateSpec | None:
        """Return the gate of that name; None if no task of this worker has such a gate."""
        token, tilde, key = gate.partition("~")
        task = self._tasks.get(token.replace(":", "."))
        if task is None or not tilde:
            return None
        if key.startswith("~"):
            return GateSpec(gate, limit=1)
        return self._spec(gate, task) if task.name in self._limited else None

    def _gate(self, spec: GateSpec) -> Gate:
        gate = self._gates.get(spec.name)
        if gate is None:
            gate = self._gates[spec.name] = self._new_gate(spec)
        return gate

    def _new_gate(self, spec: GateSpec) -> Gate:
        share = schedule = None
        if spec.limit is not None:
            broadcast = partial(self._notices.broadcast, spec.name)
            share = LimitShare(self._broker, self._presence, f"slots.{spec.name}", spec.limit, broadcast)
        if spec.rate is not None:
            schedule = RateSchedule(self._broker, f"rate.{spec.name}", spec.rate)
        gate = Gate(
            spec.name,
            share=share,
            schedule=schedule,
            now=self._broker.now,
            free_slots=partial(self._free_slots, spec.name),
            on_waiting_change=self._count,
            fetch_parked=partial(self._call_up, spec.name),
            on_idle=self._forget,
        )
        gate.paused_until = self._pauses.end_of(spec.name)
        return gate

    def _free_slots(self, gate: str) -> int:
        room = self._room()
        if room <= 0:
            self._cramped[gate] = None
        return room

    def _count(self, change: int) -> None:
        self.waiting += change

    async def _call_up(self, gate: str, missing: int) -> int:
        return await self._parking.call_up(self._gates[gate], missing)

    def _forget(self, gate: Gate) -> None:
        del self._gates[gate.name]

    # --- messages of other workers

    def _on_pause(self, name: str, until: float) -> None:
        if name in self._gates:
            self._gates[name].paused_until = until

    def _on_notice(self, notice: SlotNotice) -> None:
        gate = self._gates.get(notice.gate)
        if gate is not None:
            if gate.share is not None:
                gate.share.on_notice(notice.worker, notice.has)
            gate.wake()

    def _gate_with_parked_jobs(self, name: str) -> Gate | None:
        gate = self._gates.get(name)
        if gate is None and not self._listening:
            # The jobs were parked before this worker began, and perhaps no other worker is left that calls them up.
            spec = self._spec_named(name)
            gate = None if spec is None else self._gate(spec)
        return gate


def _is_limited(task: Task[..., Any]) -> bool:
    return task.declared.limit is not None or task.declared.rate is not None
