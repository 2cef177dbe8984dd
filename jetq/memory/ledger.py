"""The ledger of memory brokers: what workflows and durable jobs have written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jetq.broker.ledger import check_count, check_entries, check_filter, is_of_counts
from jetq.broker.numbers import LOOK_AGAIN_AFTER, READ_LIMIT, STANDING_LIMIT
from jetq.errors import BrokerError, PayloadTooLarge
from jetq.memory.base import Base, settle
from jetq.memory.sizes import MAX_PAYLOAD
from jetq.model.cell import LedgerEntry, NewEntry, Standing
from jetq.model.deployment_facts import Drift

__all__ = ["ANSWER_WITHIN", "Ledger"]

ANSWER_WITHIN = 5.0
"""Seconds of real time for an answer that is new enough, as many as JetStream has by default."""


class Ledger(Base):
    """See `jetq.broker.ledger.Ledger`."""

    async def setup_ledger(self) -> Sequence[Drift]:
        return ()

    async def write_entry(
        self, name: str, body: bytes, *, expected: int | None = None, on: str | None = None, ttl: float | None = None
    ) -> int | None:
        return await self.write_entries([NewEntry(name, body, expected, on, ttl)])

    def send_entry(
        self,
        name: str,
        body: bytes,
        on_done: Callable[[int | BrokerError | None], None],
        *,
        on: str,
        ttl: float | None = None,
    ) -> bool:
        entry = NewEntry(name, body, 0, on, ttl)
        check_entries([entry])
        try:
            _check_size(entry)
            with self.store.lock:
                self.use()
                written = self.store.ledger.sequence if self.store.ledger.write([entry]) else None
        except BrokerError:
            return False
        asyncio.get_running_loop().call_soon(on_done, written)
        return True

    async def write_entries(self, entries: Sequence[NewEntry]) -> int | None:
        check_entries(entries)
        for entry in entries:
            _check_size(entry)
        with self.store.lock:
            self.use()
            return self.store.ledger.sequence if self.store.ledger.write(entries) else None

    async def read_entry(self, where: str, *, surely: bool = False) -> LedgerEntry | None:
        check_filter(where)
        with self.store.lock:
            self.use()
            return self.store.ledger.newest(where)

    async def read_entries(self, where: str) -> Sequence[LedgerEntry]:
        check_filter(where)
        with self.store.lock:
            self.use()
            found = [self.store.ledger.newest(name) for name in self.store.ledger.names(where)[:READ_LIMIT]]
            return [entry for entry in found if entry is not None]

    async def list_entries(self, where: str, *, after: int = 0, limit: int = READ_LIMIT) -> Sequence[LedgerEntry]:
        check_filter(where)
        with self.store.lock:
            self.use()
            found = [self.store.ledger.newest(name) for name in self.store.ledger.names(where)]
        above = [entry for entry in found if entry is not None and entry.sequence > after]
        return sorted(above, key=lambda entry: entry.sequence)[:limit]

    async def wait_entry(self, where: str, timeout: float) -> LedgerEntry | None:
        check_filter(where)
        loop = asyncio.get_running_loop()
        written: asyncio.Future[LedgerEntry | None] = loop.create_future()

        def on_entry(entry: LedgerEntry) -> None:
            loop.call_soon_threadsafe(settle, written, entry)

        with self.store.lock:
            self.use()
            standing = self.store.ledger.newest(where)
            if standing is not None:
                return standing
            stop_listening = self.store.ledger.listen(where, on_entry)
        try:
            return await self.arrival(written, timeout)
        finally:
            with self.store.lock:
                stop_listening()

    async def standing_entries(self, where: str, *, at_least: int = 0) -> Standing:
        check_filter(where)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_WITHIN
        while (standing := self._standing_now(where)).sequence < at_least:
            if loop.time() + LOOK_AGAIN_AFTER > deadline:
                break
            await asyncio.sleep(LOOK_AGAIN_AFTER)
        return standing

    def _standing_now(self, where: str) -> Standing:
        with self.store.lock:
            self.use()
            names = self.store.ledger.names(where)
            sequence = self.store.ledger.sequence
        if len(names) > STANDING_LIMIT:
            raise BrokerError(f"{len(names):,} entries match {where}, and one answer names {STANDING_LIMIT:,} at most")
        return Standing(names, sequence)

    async def count_up(self, name: str, by: int) -> int:
        check_count(name)
        with self.store.lock:
            self.use()
            return self.store.ledger.count_up(name, by)

    async def drop_entry(self, sequence: int) -> bool:
        with self.store.lock:
            self.use()
            return self.store.ledger.drop(sequence)

    async def purge_entries(self, where: str) -> int:
        check_filter(where, counts=True)
        with self.store.lock:
            self.use()
            return self.store.ledger.purge_counts(where) if is_of_counts(where) else self.store.ledger.purge(where)


def _check_size(entry: NewEntry) -> None:
    if len(entry.body) > MAX_PAYLOAD:
        raise PayloadTooLarge(f"entry {entry.name} has {len(entry.body):,} bytes, the limit is {MAX_PAYLOAD:,}")
