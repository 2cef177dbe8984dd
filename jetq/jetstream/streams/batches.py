"""Several messages that are stored at once: all of them or none, as JetStream's atomic batches (ADR-50)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from jetq.errors import BrokerUnavailable, Denied, PayloadTooLarge, Rejected
from jetq.jetstream.streams.publisher import WRONG_LAST_SEQUENCE, PubAck, WrongSequence, read_ack
from jetq.jetstream.streams.refusals import BATCH_IN_A_MOMENT, HINTS
from jetq.jetstream.transport.connection import Connection, NotAllowed
from jetq.jetstream.transport.nats_client import header_block

__all__ = ["BatchMessage", "Batches", "NotTaken"]


class BatchMessage(Struct, frozen=True):
    """One message of a batch. `headers` may have an expectation, which is about what is stored before the batch."""

    subject: str
    payload: bytes
    headers: Mapping[str, str]


class NotTaken(BrokerUnavailable):
    """The server does not take the batch at this moment: it has stored nothing of the batch, and never will. The same
    messages may be sent at once, as another batch."""


class _UnderWay(Struct, eq=False):
    """A batch under way: its subjects, by their names in lower case, and the one on which the user may not publish, if
    there is one."""

    subjects: Mapping[str, str]
    denied: str = ""


class Batches:
    """Stores batches over one connection. `doubt_limit` is called when a message was larger than the server is known to
    take."""

    def __init__(self, connection: Connection, doubt_limit: Callable[[], None]) -> None:
        self._connection = connection
        self._doubt_limit = doubt_limit
        self._under_way: list[_UnderWay] = []

    def start(self) -> None:
        """Listen for denials. Call this once, before the first batch."""
        self._connection.on_denied(self._deny)

    async def store(self, messages: Sequence[BatchMessage], what: str, *, timeout: float) -> PubAck:
        """Store `messages`, all of one stream, or none of them; return the answer, with the sequence of the last one.

        what: how errors call the batch. timeout: seconds to wait for the answer. Raises PayloadTooLarge before anything
        is sent, WrongSequence if an expectation does not hold, NotTaken, Denied, and Rejected if the server refused the
        batch. Raises what `Connection.request` raises too; after NoReply the batch may be stored all the same.
        """
        numbered = self._numbered(messages)
        self._check_sizes(numbered)
        batch = _UnderWay({message.subject.lower(): message.subject for message in numbered})
        self._under_way.append(batch)
        try:
            await self._send(numbered[:-1])
            last = numbered[-1]
            answer = await self._connection.request(
                last.subject, last.payload, headers=dict(last.headers), timeout=timeout
            )
        except NotAllowed:
            raise Denied(numbered[-1].subject) from None
        finally:
            self._under_way.remove(batch)
        return _checked(answer.data, what, batch.denied)

    async def _send(self, messages: Sequence[BatchMessage]) -> None:
        """Send messages to which no answer comes: the server says in its answer to the last one what is wrong with any
        of them."""
        for each in messages:
            # Without a connection a message is left out, and not sent later: then the server does not take the batch.
            self._connection.offer(each.subject, each.payload, "", header_block(each.headers))
            if self._connection.congested:
                await self._connection.drained()

    def _numbered(self, messages: Sequence[BatchMessage]) -> list[BatchMessage]:
        batch = uuid.uuid4().hex
        numbered = []
        for number, each in enumerate(messages, 1):
            headers = {**each.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number == len(messages):
                headers["Nats-Batch-Commit"] = "1"
            numbered.append(BatchMessage(each.subject, each.payload, headers))
        return numbered

    def _check_sizes(self, messages: Sequence[BatchMessage]) -> None:
        limit = self._connection.max_payload
        for each in messages:
            size = len(header_block(each.headers)) + len(each.payload)
            if size > limit:
                self._doubt_limit()
                raise PayloadTooLarge(
                    f"the message for {each.subject} has {size:,} bytes with its headers, the server takes {limit:,}"
                )

    def _deny(self, denied: str) -> None:
        """Note that the user may not publish on `denied`, a subject in lower case."""
        # Nobody waits for an answer to a message before the last one. The denial comes before the answer to the last
        # message, because the server reads the messages in order.
        for batch in self._under_way:
            if denied in batch.subjects:
                batch.denied = batch.subjects[denied]


def _checked(data: bytes, what: str, denied: str) -> PubAck:
    """Return the server's answer to a batch if it says that the batch is stored, and raise what it says otherwise."""
    try:
        ack = read_ack(data)
    except msgspec.DecodeError:
        raise BrokerUnavailable(f"the answer for {what} was not JetStream's") from None
    error = ack.error
    if error is None:
        return ack
    if denied:
        raise Denied(denied)
    if error.err_code == WRONG_LAST_SEQUENCE:
        raise WrongSequence(error.description)
    if error.err_code in BATCH_IN_A_MOMENT:
        raise NotTaken(f"{what} was not taken now: {error.description} (error {error.err_code})")
    raise Rejected(
        f"{what} was refused: {error.description} (JetStream error {error.err_code})", hint=HINTS.get(error.err_code)
    )
