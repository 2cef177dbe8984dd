"""Small values by name that applications and plugins keep beside their jobs, in a stream of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from jetq.jetstream.broker.base import Base
from jetq.jetstream.broker.compared import write_compared
from jetq.jetstream.streams.api import StoredMessage
from jetq.model.cell import StoredRecord
from jetq.model.deployment_facts import Drift

__all__ = ["Records"]


class Records(Base):
    """See `jetq.broker.records.Records`. Reading does not create the stream."""

    async def setup_records(self) -> Sequence[Drift]:
        return await self.topology.records()

    async def read_record(self, name: str) -> StoredRecord | None:
        message = await self.api.last_message(self.subjects.records, self.subjects.record(name))
        return None if message is None else self._record(message)

    async def write_record(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        await self.ensure_records()
        return await write_compared(self.publisher, self.subjects.record(name), value, expected, ttl)

    async def drop_record(self, record: StoredRecord) -> bool:
        return await self.api.delete(self.subjects.records, record.version)

    async def each_record(self, below: str) -> AsyncIterator[StoredRecord]:
        async for message in self.messages(self.subjects.records, self.subjects.record(f"{below}.>")):
            yield self._record(message)

    def _record(self, message: StoredMessage) -> StoredRecord:
        name = message.subject[len(self.subjects.record("")) :]
        return StoredRecord(name, message.data, message.sequence, message.stored_at)
