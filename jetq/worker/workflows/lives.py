"""The lives of workflows that a worker has members of: each is read once, and forgotten when it may have changed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection

from msgspec import Struct

from jetq.encoding.sealer import Sealer
from jetq.model.job import Place
from jetq.model.workflows.records import WorkflowState
from jetq.operations.workflows.life import FlowBroker, Life
from jetq.operations.workflows.lives import former_plan, plan_of
from jetq.operations.workflows.states import state_in

__all__ = ["FRESH", "Lives"]

_MOST = 1_000
"""Lives that are kept in memory."""

FRESH = 5.0
"""Seconds for which what was read of a life counts: a worker may miss that it was cancelled, retried or closed."""


class _Known(Struct):
    """What is known of a life. life: None if it is not open. state: how it has ended, if it is closed and not replaced.
    until: when this is to be read again, by the monotonic clock."""

    life: Life | None
    state: WorkflowState = "running"
    until: float = 0.0


class Lives:
    """The lives that one worker knows. actor: names the worker where it lacks a permission."""

    def __init__(self, broker: FlowBroker, sealer: Sealer, actor: str = "a worker") -> None:
        self._broker = broker
        self._sealer = sealer
        self._actor = actor
        self._known: OrderedDict[str, asyncio.Task[_Known]] = OrderedDict()

    async def get(self, place: Place) -> Life | None:
        """Return the life of a member; None if it is not open any more. Raises BrokerError, and what reading a plan
        raises."""
        return (await self._read(place)).life

    async def open(self, place: Place, *, anew: bool = False) -> Life | None:
        """Return the workflow of a member; None if it is not open. To its callbacks a workflow is open also after it
        has ended and another was stored in its place. `anew`: as it is now."""
        life = await (self.renewed(place) if anew else self.get(place))
        if life is not None:
            return life
        found = await former_plan(self._broker, self._sealer, place.workflow, place.home, place.life)
        step = None if found is None or found.plan is None else found.plan.steps.get(place.step)
        if found is None or found.plan is None or step is None or step.callback is None:
            return None
        return Life(
            self._broker, self._sealer, place.workflow, place.home, found.plan, found.sequence, actor=self._actor
        )

    def at_hand(self, place: Place) -> Life | None:
        """Return the life of a member if that is known, runs, and need not be read anew."""
        known = _known(self._known.get(place.life))
        if known is None or known.state != "running" or time.monotonic() > known.until:
            return None
        return known.life

    async def renewed(self, place: Place) -> Life | None:
        """Return the life as it is now."""
        return (await self._read(place, anew=True)).life

    async def state(self, place: Place) -> WorkflowState:
        """Return the state of the life, as far as this worker knows."""
        return (await self._read(place)).state

    def forget(self, life: str) -> Life | None:
        """Forget what is known of a life: it was stopped, or taken up again. Return the life as it was known."""
        known = _known(self._known.pop(life, None))
        return None if known is None else known.life

    async def _read(self, place: Place, *, anew: bool = False) -> _Known:
        task = self._known.get(place.life)
        if task is None or anew or _is_old(task):
            looking = self._look(place, max(place.seen, _seen(task)), _allowed(task))
            task = self._known[place.life] = asyncio.get_running_loop().create_task(looking, name="jetq-life")
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and self._known.get(place.life) is task:
                del self._known[place.life]
            raise

    async def _look(self, place: Place, seen: int, allowed: Collection[str]) -> _Known:
        until = time.monotonic() + FRESH  # from before the question on
        # The state before the plan: a workflow is closed first, and then its state goes.
        state = await state_in(self._broker, place.life)
        found = await plan_of(self._broker, self._sealer, place.workflow, place.home, place.life)
        if found is None or found.plan is None:
            closed = None if found is None else found.closed
            return _Known(None, "running" if closed is None else closed.closed, until)
        life = Life(
            self._broker, self._sealer, place.workflow, place.home, found.plan, found.sequence, actor=self._actor
        )
        life.saw(seen)
        life.allowed.update(allowed)
        return _Known(life, state, until)


def _known(task: asyncio.Task[_Known] | None) -> _Known | None:
    return None if task is None or not task.done() or task.cancelled() or task.exception() else task.result()


def _is_old(task: asyncio.Task[_Known]) -> bool:
    known = _known(task)
    return task.done() if known is None else time.monotonic() > known.until


def _allowed(task: asyncio.Task[_Known] | None) -> Collection[str]:
    """Return the other queues that this worker knows the life to be planned for: what is noted of that stays."""
    known = _known(task)
    return () if known is None or known.life is None else known.life.allowed


def _seen(task: asyncio.Task[_Known] | None) -> int:
    """Return the newest sequence that this worker knew of the life: what is read anew must not be older."""
    known = _known(task)
    return 0 if known is None or known.life is None else known.life.seen
