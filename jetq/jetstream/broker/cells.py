"""Small values that the fleet shares, whose version is compared at each write, and signals, which are not kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from jetq.errors import BrokerError
from jetq.jetstream.broker.base import Base
from jetq.jetstream.broker.compared import write_compared
from jetq.jetstream.transport.message import Message
from jetq.model.cell import Cell

__all__ = ["Cells", "watch_state"]

_log = logging.getLogger("jetq.jetstream")


class Cells(Base):
    """See `jetq.broker.cells.Cells`."""

    async def read_cell(self, name: str) -> Cell | None:
        await self.ensure_shared()
        message = await self.api.last_message(self.subjects.state, self.subjects.cell(name))
        return None if message is None else Cell(name, message.data, message.sequence)

    async def oldest_cell(self, below: str) -> Cell | None:
        await self.ensure_shared()
        message = await self.api.next_message(self.subjects.state, self.subjects.cell(f"{below}.*"), 1)
        if message is None:
            return None
        return Cell(message.subject[len(self.subjects.cell("")) :], message.data, message.sequence)

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        await self.ensure_shared()
        return await write_compared(self.publisher, self.subjects.cell(name), value, expected, ttl)

    async def drop_cell(self, cell: Cell) -> bool:
        return await self.api.delete(self.subjects.state, cell.version)

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        await watch_state(self, self.subjects.cell(below), on_write)

    async def signal(self, topic: str, data: bytes) -> None:
        await self.connection.publish(self.subjects.signal(topic), data)

    async def on_signal(self, topic: str, on_notice: Callable[[bytes], None]) -> None:
        await self.connection.subscribe(self.subjects.signal(topic), lambda msg: on_notice(msg.data))


async def watch_state(base: Base, prefix: str, on_write: Callable[[str, bytes], None]) -> None:
    """Call `on_write` for each piece of state whose subject is `prefix` and one token more.

    The message that stores the state is also the one that is pushed to the workers.
    """
    await base.ensure_shared()
    subject, start = f"{prefix}.*", len(prefix) + 1
    reading: set[asyncio.Task[None]] = set()

    def on_push(msg: Message) -> None:
        on_write(msg.subject[start:], msg.data)

    async def read() -> None:
        try:
            sequence = 1
            while message := await base.api.next_message(base.subjects.state, subject, sequence):
                on_write(message.subject[start:], message.data)
                sequence = message.sequence + 1
        except BrokerError as error:
            _log.warning("what was written below %s meanwhile is not known: %s", prefix, error.message)

    def read_again() -> None:
        task = base.connection.loop.create_task(read(), name="jetq-read-state")
        reading.add(task)
        task.add_done_callback(reading.discard)

    # In this order, so that nothing is missed: what is written after the subscription is pushed, and what was written
    # before is read.
    await base.connection.subscribe(subject, on_push)
    base.connection.on_up(read_again)
    await read()
