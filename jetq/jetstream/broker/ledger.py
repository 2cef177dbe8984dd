"""The ledger in two streams of its own: one of entries, whose sequences are compared at each write, and one of
counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from msgspec import Struct

from jetq.broker.ledger import check_count, check_entries, check_entry, check_filter, is_of_counts
from jetq.broker.numbers import LOOK_AGAIN_AFTER, READ_LIMIT, STANDING_LIMIT
from jetq.errors import BrokerError, NotSent, NotStored, Rejected
from jetq.jetstream.broker.base import Base
from jetq.jetstream.broker.compared import compared_headers, write_compared
from jetq.jetstream.streams.api import NOT_FOUND, ApiError, StoredMessage
from jetq.jetstream.streams.batches import BatchMessage, NotTaken
from jetq.jetstream.streams.publisher import PubAck, WrongSequence
from jetq.jetstream.transport.connection import NoReply, NoResponders, Unsent
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.cell import LedgerEntry, NewEntry, Standing
from jetq.model.deployment_facts import Drift
from jetq.runtime.backoff import backoff

__all__ = ["Ledger"]

_FIRST_BACKOFF = 0.05
_LAST_BACKOFF = 1.0

_FIRST_LOOK = 0.001
_LAST_LOOK = 2.0
"""Seconds between looks for an entry that was sent. Subscribers get a message before the stream has stored it, which
takes a stream of three replicas some milliseconds (nats-server 2.15.1)."""

_READ_BYTES = 8 * 1024 * 1024
"""Bytes of entries that are read at once. A server hangs up on a client that has not taken 64 MiB."""


class Ledger(Base):
    """See `jetq.broker.ledger.Ledger`. Reading does not create the streams."""

    async def setup_ledger(self) -> Sequence[Drift]:
        return await self.topology.ledger()

    async def write_entry(
        self, name: str, body: bytes, *, expected: int | None = None, on: str | None = None, ttl: float | None = None
    ) -> int | None:
        entry = NewEntry(name, body, expected, on, ttl)
        check_entries([entry])
        await self.ensure_ledger()
        return await self._write_single(entry)

    async def _write_single(self, entry: NewEntry) -> int | None:
        subject = self.subjects.entry(entry.name)
        on = None if entry.on is None else self.subjects.entry(entry.on)
        return await write_compared(self.publisher, subject, entry.body, entry.expected, entry.ttl, on=on)

    def send_entry(
        self,
        name: str,
        body: bytes,
        on_done: Callable[[int | BrokerError | None], None],
        *,
        on: str,
        ttl: float | None = None,
    ) -> bool:
        check_entry(name, on)
        if not self.has_ledger or not self.connection.free:
            return False
        block = header_block(compared_headers(0, ttl, self.subjects.entry(on)))
        try:
            self.publisher.send(self.subjects.entry(name), body, block, _Written(on_done))
        except BrokerError:
            return False
        return True

    async def write_entries(self, entries: Sequence[NewEntry]) -> int | None:
        check_entries(entries)
        await self.ensure_ledger()
        if len(entries) == 1:  # a batch costs the server some milliseconds on its disk (nats-server 2.15.1)
            return await self._write_single(entries[0])
        messages = [self._as_message(each) for each in entries]
        try:
            return (await self._store_batch(messages, f"a batch with {messages[0].subject}")).seq
        except WrongSequence:
            return None

    def _as_message(self, entry: NewEntry) -> BatchMessage:
        on = None if entry.on is None else self.subjects.entry(entry.on)
        return BatchMessage(
            self.subjects.entry(entry.name), entry.body, compared_headers(entry.expected, entry.ttl, on)
        )

    async def _store_batch(self, messages: Sequence[BatchMessage], what: str) -> PubAck:
        """Store a batch. It is sent again as long as it surely is not stored, and never while it may be."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.publish_timeout
        pauses = backoff(_FIRST_BACKOFF, _LAST_BACKOFF)
        while True:
            try:
                return await self.batches.store(messages, what, timeout=max(deadline - loop.time(), 0.01))
            except NotTaken as error:
                problem = error.message
            except NoResponders:
                problem = f"{what} was not taken: no stream takes it, or that has no leader"
                with contextlib.suppress(BrokerError):  # the next try finds out again
                    await self.restore(messages[0].subject)
            except Unsent:
                down = self.connection.why_down()
                raise NotSent(f"{what} was not sent: {down.message}", hint=down.hint) from None
            except NoReply as error:
                raise NotStored(
                    f"no confirmation for {what}: {error}", hint="it may be stored all the same: read what stands"
                ) from None
            pause = next(pauses)
            if loop.time() + pause > deadline:
                raise Rejected(problem)
            await asyncio.sleep(pause)

    async def read_entry(self, where: str, *, surely: bool = False) -> LedgerEntry | None:
        check_filter(where)
        last = self.api.last_message if surely else self.api.replicas_last
        message = await last(self.subjects.flows, self.subjects.entry(where))
        return None if message is None else self._entry(message)

    async def read_entries(self, where: str) -> Sequence[LedgerEntry]:
        check_filter(where)
        found = await self.api.last_of_each(
            self.subjects.flows, self.subjects.entry(where), most=READ_LIMIT, bytes=_READ_BYTES
        )
        return [self._entry(message) for message in found]

    async def list_entries(self, where: str, *, after: int = 0, limit: int = READ_LIMIT) -> Sequence[LedgerEntry]:
        check_filter(where)
        found = self.messages(self.subjects.flows, self.subjects.entry(where), after=after, limit=limit)
        return [self._entry(message) async for message in found]

    async def wait_entry(self, where: str, timeout: float) -> LedgerEntry | None:
        check_filter(where)
        told = asyncio.Event()
        subscription = await self.connection.subscribe(self.subjects.entry(where), lambda _: told.set())
        try:
            # The question comes to the server after the subscription: an entry stands by now, or is still told.
            entry = await self.read_entry(where, surely=True)
            async with asyncio.timeout(timeout):
                while entry is None:
                    await told.wait()
                    told.clear()
                    entry = await self._told_of(where)
            return entry
        except TimeoutError:
            return None
        finally:
            await subscription.unsubscribe()

    async def _told_of(self, where: str) -> LedgerEntry | None:
        """Return the entry that was just sent to `where`; None if it was not stored, because something else was
        expected there."""
        pauses = backoff(_FIRST_LOOK, _LAST_LOOK)
        while (entry := await self.read_entry(where, surely=True)) is None:
            pause = next(pauses)
            if pause >= _LAST_LOOK:
                break
            await asyncio.sleep(pause)
        return entry

    def _entry(self, message: StoredMessage) -> LedgerEntry:
        return LedgerEntry(self.subjects.entry_name(message.subject), message.data, message.sequence, message.stored_at)

    async def standing_entries(self, where: str, *, at_least: int = 0) -> Standing:
        check_filter(where)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.api.timeout
        while (standing := await self._standing_now(where)).sequence < at_least:
            if loop.time() + LOOK_AGAIN_AFTER > deadline:
                break
            await asyncio.sleep(LOOK_AGAIN_AFTER)
        return standing

    async def _standing_now(self, where: str) -> Standing:
        try:
            info = await self.api.request(
                f"STREAM.INFO.{self.subjects.flows}", {"subjects_filter": self.subjects.entry(where)}
            )
        except ApiError as error:
            if error.err_code in NOT_FOUND:
                return Standing((), 0)
            raise
        state = info["state"]
        names = tuple(map(self.subjects.entry_name, state.get("subjects") or ()))
        if int(info.get("total", 0)) > len(names):
            raise BrokerError(
                f"{info['total']:,} entries match {where}, and one answer names {STANDING_LIMIT:,} at most"
            )
        return Standing(names, int(state["last_seq"]))

    async def count_up(self, name: str, by: int) -> int:
        check_count(name)
        await self.ensure_ledger()
        ack = await self.publisher.publish(self.subjects.entry(name), b"", {"Nats-Incr": f"{by:+d}"})
        return int(ack.val)

    async def drop_entry(self, sequence: int) -> bool:
        return await self.api.delete(self.subjects.flows, sequence)

    async def purge_entries(self, where: str) -> int:
        check_filter(where, counts=True)
        stream = self.subjects.counts if is_of_counts(where) else self.subjects.flows
        return await self.api.purge(stream, self.subjects.entry(where))


class _Written(Struct, eq=False):
    """Tells what became of an entry by calling `on_done`."""

    on_done: Callable[[int | BrokerError | None], None]
    _done: bool = False

    def done(self) -> bool:
        """Return whether it was told."""
        return self._done

    def set_result(self, ack: PubAck, /) -> None:
        """Tell the sequence of the entry."""
        self._done = True
        self.on_done(ack.seq)

    def set_exception(self, error: BrokerError | WrongSequence, /) -> None:
        """Tell that something else stands there, or the error."""
        self._done = True
        self.on_done(error if isinstance(error, BrokerError) else None)
