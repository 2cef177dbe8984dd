"""Notices by which workers tell each other about gates. A notice is never stored, and a lost notice makes a worker look
later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec import Struct

from jetq.broker.cells import Cells
from jetq.errors import BrokerError
from jetq.worker.limits.presence import Presence

__all__ = ["Notices", "SlotNotice"]

_log = logging.getLogger("jetq.worker")

_TOPIC = "limits"

_LAST_SENT_WITHIN = 1.0
"""Seconds that a worker which ends has for sending its last notices."""


class SlotNotice(Struct, array_like=True):
    """What `worker` says about its slots of a gate. `has` is how many slots the worker has while it needs more; None
    means that the worker has given one up."""

    gate: str
    worker: str
    has: int | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SlotNotice).decode


class Notices:
    """Sends notices in the background, and receives the notices of other workers.

    presence: the presence of the worker; the presence's name signs the notices. on_notice: called with each notice of
    another worker.
    """

    def __init__(self, broker: Cells, presence: Presence, on_notice: Callable[[SlotNotice], None]) -> None:
        self._broker = broker
        self._presence = presence
        self._on_notice = on_notice
        self._sending: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Receive notices from now on. Raises BrokerError."""
        await self._broker.on_signal(_TOPIC, self._receive)

    def broadcast(self, gate: str, has: int | None) -> None:
        """Tell the other workers how many slots of `gate` this worker has when it needs more; None if this worker gave
        one up."""
        notice = SlotNotice(gate, self._presence.name, has)
        self.send(gate, self._broker.signal(_TOPIC, _encode(notice)))

    def send(self, gate: str, sending: Coroutine[Any, Any, object]) -> None:
        """Run `sending` in the background, about `gate`. Raises nothing: a failure is logged for debugging."""
        task = asyncio.create_task(self._send(gate, sending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Wait one second for the notices that are being sent, and drop the rest."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_LAST_SENT_WITHIN)
        for task in self._sending:
            task.cancel()

    async def _send(self, gate: str, sending: Coroutine[Any, Any, object]) -> None:
        try:
            await sending
        except BrokerError as error:  # a worker that does not receive the notice looks by itself
            _log.debug("limits of %s: not told: %s", gate, error.message)

    def _receive(self, data: bytes) -> None:
        try:
            notice = _decode(data)
        except (ValueError, RecursionError):
            return  # anyone with the permission may publish on this subject
        if notice.worker != self._presence.name:
            self._on_notice(notice)
