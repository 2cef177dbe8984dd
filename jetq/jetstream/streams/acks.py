"""Removing settled jobs by acks: sent once per loop turn, confirmed in batches, made good when a connection is lost.

The server answers an ack only if the ack asks for an answer, and a PONG confirms no ack: after 5,000 acks, PING, PONG
and a kill, up to all of the 5,000 jobs were still stored (nats-server 2.15.1, one and three nodes). An answer to the
last ack of a batch confirms the earlier acks on the same connection and consumer. Jobs whose acks stay unconfirmed are
removed by sequence. That is safe while the stream is the same one, because a stream uses no sequence twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jetq.errors import BrokerError
from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.message import Message
from jetq.model.job import Delivery

__all__ = ["Acks"]

_log = logging.getLogger("jetq.jetstream")

_ACK = b"+ACK"
_CONFIRM_WITHIN = 2.0
_REMEMBERED = 4096
_RETRY_AFTER = 1.0


class Acks:
    """The acks of one queue's deliveries over one connection.

    `remove` deletes one message by its sequence. `identity` tells the stream's creation time, because a stream that was
    made anew counts from 1 again.
    """

    def __init__(
        self,
        connection: Connection,
        remove: Callable[[int], Awaitable[None]],
        identity: Callable[[], Awaitable[str]],
        stream_created: str,
    ) -> None:
        self._connection = connection
        self._remove = remove
        self._identity = identity
        self._stream_created = stream_created
        self._loop = asyncio.get_running_loop()
        self._inbox = connection.new_inbox() + "."
        self._waiting: list[Delivery] = []
        self._unconfirmed: dict[str, list[int]] = {}
        self._settled: dict[int, float] = {}
        self._settled_before: dict[int, float] = {}
        self._batch = 0
        self._flush_due = False
        self._mending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for confirmations. Call this once, before the first ack."""
        await self._connection.subscribe(self._inbox + "*", self._on_confirmed)
        self._connection.on_up(self._on_reconnected)

    def add(self, delivery: Delivery) -> None:
        """Ack `delivery` at the end of this loop turn."""
        if len(self._settled) >= _REMEMBERED:  # two generations: deleting the oldest of a dict scans its dead slots
            self._settled_before, self._settled = self._settled, {}
        self._settled[delivery.sequence] = delivery.stored_at
        self._waiting.append(delivery)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def has_settled(self, delivery: Delivery) -> bool:
        """Return whether this process settled this same message a short while ago. A repeat of the message is acked,
        not run.

        The time of storage tells the message from one of a stream made anew, where an id may come again under the same
        sequence.
        """
        sequence = delivery.sequence
        return (self._settled.get(sequence) or self._settled_before.get(sequence)) == delivery.stored_at

    async def confirm(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything added so far is confirmed. Do not wait without a connection."""
        deadline = self._loop.time() + timeout
        while self._open() and self._loop.time() < deadline:  # noqa: ASYNC110 - an event would cost every batch
            await asyncio.sleep(0.002)

    def _open(self) -> bool:
        return bool(self._waiting or self._unconfirmed) and self._connection.connected

    def stop(self) -> None:
        """Give up the acks that are not confirmed: their jobs come back when their leases lapse."""
        for task in self._mending:
            task.cancel()

    def _flush(self) -> None:
        # This runs after the callbacks that were ready together with the first ack, so the batch has the acks of all of
        # them.
        self._flush_due = False
        batch, self._waiting = self._waiting, []
        self._batch += 1
        token = str(self._batch)
        self._unconfirmed[token] = [delivery.sequence for delivery in batch]
        last = batch.pop()
        try:
            self._connection.send_each([delivery.token for delivery in batch], _ACK)
            self._connection.send(last.token, _ACK, self._inbox + token)
        except BrokerError as error:
            _log.warning("%d acks are put off: %s", len(batch) + 1, error.message)
        self._loop.call_later(_CONFIRM_WITHIN, self._on_overdue, token)

    def _on_confirmed(self, msg: Message) -> None:
        if msg.headers.get("Status") == "503":
            return  # nobody heard the ack: the consumer was deleted, or has no leader just now
        self._unconfirmed.pop(msg.subject[len(self._inbox) :], None)

    def _on_overdue(self, token: str) -> None:
        if token in self._unconfirmed:
            self._mend(token)

    def _on_reconnected(self) -> None:
        for token in list(self._unconfirmed):
            self._mend(token)

    def _mend(self, token: str) -> None:
        task = self._loop.create_task(self._remove_batch(token), name="jetq-mend-acks")
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    async def _remove_batch(self, token: str) -> None:
        while (sequences := self._unconfirmed.get(token)) is not None:
            try:
                created = await self._identity()
                if created != self._stream_created:
                    _log.warning("the stream was made anew; %d removals from the old one are moot", len(sequences))
                    self._stream_created = created
                    self._unconfirmed.clear()
                    return
                for sequence in sequences:
                    await self._remove(sequence)
                self._unconfirmed.pop(token, None)
            except BrokerError as error:
                _log.warning("removing %d settled jobs is put off: %s", len(sequences), error.message)
                await asyncio.sleep(_RETRY_AFTER)
