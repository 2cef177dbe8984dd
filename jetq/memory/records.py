"""Records of memory brokers: small values that applications and plugins keep beside their jobs."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

from jetq.memory.base import Base
from jetq.model.cell import StoredRecord
from jetq.model.deployment_facts import Drift

__all__ = ["Records"]


class Records(Base):
    """See `jetq.broker.records.Records`."""

    async def setup_records(self) -> Sequence[Drift]:
        return ()

    async def read_record(self, name: str) -> StoredRecord | None:
        with self.store.lock:
            self.use()
            return self.store.records.get(name)

    async def write_record(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        with self.store.lock:
            self.use()
            existing = self.store.records.get(name)
            if expected is not None and expected != (0 if existing is None else existing.version):
                return None
            version, now = next(self.store.versions), self.store.now()
            self.store.records[name] = StoredRecord(name, value, version, now)
            if ttl is not None:
                self.store.at(now + max(1, math.ceil(ttl)), lambda: self._expire(name, version))
            return version

    def _expire(self, name: str, version: int) -> None:
        existing = self.store.records.get(name)
        if existing is not None and existing.version == version:
            del self.store.records[name]

    async def drop_record(self, record: StoredRecord) -> bool:
        with self.store.lock:
            self.use()
            existing = self.store.records.get(record.name)
            if existing is None or existing.version != record.version:
                return False
            del self.store.records[record.name]
            return True

    async def each_record(self, below: str) -> AsyncIterator[StoredRecord]:
        with self.store.lock:
            self.use()
            found = [each for name, each in self.store.records.items() if name.startswith(f"{below}.")]
        for each in sorted(found, key=lambda each: each.version):
            yield each
