"""Small values that the fleet shares, compared when they are written, and signals that are not kept."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from jetq.errors import BrokerError
from jetq.jetstream.broker.base import EXPECTED, TTL, Ground
from jetq.jetstream.streams.publisher import WrongSequence
from jetq.jetstream.transport.message import Message
from jetq.model.cell import Cell

__all__ = ["Cells"]

_log = logging.getLogger("jetq.jetstream")


class Cells(Ground):
    """The part of the broker that holds what workers agree on. See `jetq.broker.Broker`."""

    async def read_cell(self, name: str) -> Cell | None:
        await self._ensure_shared()
        message = await self._api.last_message(self._names.state, self._names.cell(name))
        return None if message is None else Cell(name, message.data, message.sequence)

    async def first_cell(self, below: str) -> Cell | None:
        await self._ensure_shared()
        message = await self._api.next_message(self._names.state, self._names.cell(f"{below}.*"), 1)
        if message is None:
            return None
        return Cell(message.subject[len(self._names.cell("")) :], message.data, message.sequence)

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        await self._ensure_shared()
        headers = {}
        if expected is not None:
            headers[EXPECTED] = str(expected)
        if ttl is not None:
            headers[TTL] = f"{max(1, math.ceil(ttl))}s"
        try:
            ack = await self._publisher.publish(self._names.cell(name), value, headers)
        except WrongSequence:
            return None
        return ack.seq

    async def drop_cell(self, cell: Cell) -> bool:
        return await self._api.delete(self._names.state, cell.version)

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        await self._watch(self._names.cell(below), on_write)

    async def _watch(self, prefix: str, on_write: Callable[[str, bytes], None]) -> None:
        """Tell of the state whose subject is `prefix` and one token more. The message that stores it is the push."""
        await self._ensure_shared()
        subject, start = f"{prefix}.*", len(prefix) + 1
        reading: set[asyncio.Task[None]] = set()

        def on_push(msg: Message) -> None:
            on_write(msg.subject[start:], msg.data)

        async def read() -> None:
            try:
                sequence = 1
                while message := await self._api.next_message(self._names.state, subject, sequence):
                    on_write(message.subject[start:], message.data)
                    sequence = message.sequence + 1
            except BrokerError as error:
                _log.warning("what was written below %s meanwhile is not known: %s", prefix, error.message)

        def read_again() -> None:
            task = self._connection.loop.create_task(read(), name="jetq-read-state")
            reading.add(task)
            task.add_done_callback(reading.discard)

        # In this order: what is written after the subscription is pushed, and what was before is read.
        await self._connection.subscribe(subject, on_push)
        self._connection.on_up(read_again)
        await read()

    async def signal(self, topic: str, data: bytes) -> None:
        await self._connection.publish(self._names.signal(topic), data)

    async def on_signal(self, topic: str, on_notice: Callable[[bytes], None]) -> None:
        await self._connection.subscribe(self._names.signal(topic), lambda msg: on_notice(msg.data))
