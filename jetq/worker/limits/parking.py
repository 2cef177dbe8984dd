"""Parked jobs of a limit: jobs that are too many to wait in a worker are stored at the broker until a worker calls them
up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.queues import Queues
from jetq.encoding.headers import meta_or_default
from jetq.errors import DefinitionError
from jetq.model.job import Meta
from jetq.model.names import check_queue
from jetq.model.outcome import InLine
from jetq.worker.limits.gate import Gate
from jetq.worker.limits.notices import Notices

__all__ = ["Parking"]

_FIRST_RETURN, _LAST_RETURN = 15.0, 600.0
"""The least and most seconds after which a parked job that no worker calls up comes back by itself. In between, the job
comes back after as long as it has waited so far, so that it comes back a few times and not again and again."""

_MARK_KEPT = 30 * 86_400.0
"""Seconds for which the broker keeps the mark that a gate has parked jobs: longer than any job is parked."""

_MARK_AGAIN_AFTER = 1.0
"""Seconds after which the next parked job writes the mark again: another worker may have found no parked job in
between, and have removed the mark."""


class _Broker(Cells, Queues, Clock, Protocol):
    """The parts of the broker that parking uses."""


class Parking:
    """Parks jobs of a gate, and calls them up. A cell `lines.GATE` marks a gate that has parked jobs.

    signature: returns the content of a mark, which is the name of the worker's presence. find_gate: returns the gate of
    a name, None if this worker has no use for that gate.
    """

    def __init__(
        self,
        broker: _Broker,
        notices: Notices,
        *,
        signature: Callable[[], str],
        find_gate: Callable[[str], Gate | None],
    ) -> None:
        self._broker = broker
        self._notices = notices
        self._signature = signature
        self._find_gate = find_gate
        self._marks_seen = 0
        self._stopping = False

    async def listen(self) -> None:
        """Subscribe to the marks of gates with parked jobs, which may exist already. Raises BrokerError."""
        await self._broker.watch_cells("lines", self._on_mark)

    def stop(self) -> None:
        """Call up no more jobs."""
        self._stopping = True

    def park(self, gate: Gate, meta: Meta) -> InLine:
        """Return the outcome of a job with `meta` that is parked at `gate`. Call `parked` once the outcome is
        settled."""
        now = self._broker.now()
        since = meta.in_line or now
        # Spread, so that jobs that were parked together do not come back together.
        after = min(max(now - since, _FIRST_RETURN), _LAST_RETURN) * random.uniform(0.8, 1.2)
        if meta.expires is not None:
            after = min(after, max(meta.expires - now, 0.0))
        gate.parking += 1
        gate.wake()
        return InLine(after, gate.name)

    def parked(self, gate: Gate) -> None:
        """Note that the outcome of `park` is settled, and tell the other workers that the gate has parked jobs."""
        gate.parking -= 1
        now = asyncio.get_running_loop().time()
        if not gate.has_parked or now - gate.marked_at > _MARK_AGAIN_AFTER:
            gate.has_parked, gate.marked_at = True, now
            mark = self._broker.write_cell(f"lines.{gate.name}", self._signature().encode(), ttl=_MARK_KEPT)
            self._notices.send(gate.name, mark)
        gate.wake()

    async def call_up(self, gate: Gate, missing: int) -> int:
        """Make up to `missing` parked jobs of `gate` ready. Return how many became ready. Raises BrokerError."""
        broker, called = self._broker, 0
        mark = await broker.read_cell(f"lines.{gate.name}")
        while called < missing and not self._stopping:
            # Read before the look for a parked job, so that a mark which arrives during the look is noticed below.
            seen = self._marks_seen
            first = await broker.oldest_cell(f"line.{gate.name}")
            if first is None:
                if seen == self._marks_seen:  # otherwise a job may have been parked since
                    gate.has_parked = gate.parking > 0
                    if mark is not None and not gate.has_parked:
                        await broker.drop_cell(mark)
                break
            # Remove the job's cell first, then make the job ready. If this worker dies in between, the job comes back
            # by itself.
            if not await broker.drop_cell(first):
                continue  # another worker was quicker
            called += await self._make_ready(first.value, first.name.rpartition(".")[2])
        return called

    async def _make_ready(self, queue: bytes, id: str) -> bool:
        try:
            checked = check_queue(queue.decode())
        except (DefinitionError, UnicodeDecodeError):
            return False  # not written by jetq
        # Looked up before the release: a job that runs already, or is scheduled for another reason, must not be
        # released.
        found = await self._broker.find(checked, id)
        if found is None or found.due is None or not meta_or_default(found.delivery.headers).in_line:
            return False
        return bool(await self._broker.release(found))

    def _on_mark(self, name: str, _: bytes) -> None:
        self._marks_seen += 1
        gate = self._find_gate(name)
        if gate is not None:
            gate.has_parked = True
            gate.wake()
