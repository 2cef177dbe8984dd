"""Storing messages: many under way at once, one inbox for all answers, and repeats that cannot store twice.

A publish is repeated in three cases. The first is a reconnect, because what was written to a dying socket is gone
(measured: 1,000 of 1,000). The second is "no responders": there is no leader for 4 to 10 s when one is killed
(nats-server 2.15). The third is a publish that stays unanswered, because its leader died with it.

A repeat is safe because it stores nothing twice: a message carries `Nats-Msg-Id` or an expected sequence, or its stream
keeps one message per subject. A server that restarts forgets the ids of messages that are gone by then, so a job that
was sent is looked for before it is sent again.

While there is no connection nothing is written anywhere: a message that is reported as failed is not stored later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from jetq.broker.numbers import DEDUP_WINDOW
from jetq.broker.wanted import always
from jetq.errors import BrokerError, Denied, EnqueueError, NotSent, NotStored, PayloadTooLarge, Rejected
from jetq.jetstream.streams.domains import DomainWatch
from jetq.jetstream.streams.refusals import HINTS, IN_A_MOMENT
from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.job import EnqueueReceipt, JobRecord

__all__ = ["WRONG_LAST_SEQUENCE", "Answer", "CallbackAnswer", "PubAck", "Publisher", "WrongSequence", "read_ack"]

T = TypeVar("T")

WRONG_LAST_SEQUENCE = 10071
_SWEEP = 0.25
_UNANSWERED = 1.0
"""Seconds after which an unanswered publish is repeated; the next repeat comes after twice as many, and so on."""

_FIRST_BACKOFF = 0.05
_LAST_BACKOFF = 1.0


_TOO_LONG_FOR_THE_STREAM = 10054
"""The error code if somebody has set `max_msg_size` of the stream."""

_STORE_FAILED = 10077


class WrongSequence(Exception):
    """The last sequence was not the expected one (10071): a newer message is stored on the subject, or none any
    more."""


class _Error(Struct):
    err_code: int = 0
    description: str = ""


class PubAck(Struct):
    """The stream's answer to a publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    domain: str = ""
    val: str = ""  # of a counter: its new value
    error: _Error | None = None

    def receipt_of(self, job: JobRecord) -> EnqueueReceipt:
        """Return what became of `job`, for which the stream gave this answer."""
        # If the server knows a fresh id already, the id comes from this same enqueue: an earlier try was stored and not
        # confirmed.
        return EnqueueReceipt(self.seq, job.id, "existing" if self.duplicate and not job.fresh else "new")


class Answer(Protocol):
    """The receiver of the outcome of a publish. A future is one."""

    def done(self) -> bool:
        """Return whether the outcome was told, or is not wanted any more."""
        ...

    def set_result(self, ack: PubAck, /) -> None:
        """Take note that the message is stored."""
        ...

    def set_exception(self, error: BrokerError | WrongSequence, /) -> None:
        """Take note that the message is not stored, or that its fate is unknown."""
        ...


class CallbackAnswer(Struct, Generic[T], eq=False):
    """Tells the outcome by calling `call`: with what `read` makes of the acknowledgement, or with the error."""

    call: Callable[[T | BrokerError], None]
    read: Callable[[PubAck], T]
    wanted: Callable[[], bool] = always
    _done: bool = False

    def done(self) -> bool:
        return self._done or not self.wanted()

    def set_result(self, ack: PubAck, /) -> None:
        self._done = True
        self.call(self.read(ack))

    def set_exception(self, error: BrokerError | WrongSequence, /) -> None:
        self._done = True
        self.call(error if isinstance(error, BrokerError) else NotStored(str(error)))


class _Pending(Struct, eq=False):
    """A publish under way.

    `job` is the job that this publish stores for the first time, if any. `sent`: the message was sent at least once.
    `unanswered` is how many times the message was sent and nothing was heard; while it is 0 the message is surely not
    stored.
    """

    subject: str
    reply: str
    payload: bytes
    block: bytes
    answer: Answer
    job: JobRecord | None
    began: float
    deadline: float
    overdue: float
    patience: float = _UNANSWERED
    backoff: float = _FIRST_BACKOFF
    refusal: str = ""
    sent: bool = False
    unanswered: int = 0


def _is_of_size(error: _Error) -> bool:
    """Return whether a message was refused because it is too long, so that a repeat is of no use."""
    return error.err_code == _TOO_LONG_FOR_THE_STREAM or (
        error.err_code == _STORE_FAILED and error.description == "message too large"
    )


read_ack = msgspec.json.Decoder(PubAck).decode
"""Returns the stream's answer. Raises msgspec.DecodeError if the bytes are no answer."""


class Publisher:
    """Pipelined JetStream publishes over one connection.

    `restore` is called with a subject for which nobody answers, before the publish is repeated: it creates what is
    missing. `trace` finds what became of a job that was sent at most a given number of seconds ago; None means nothing
    was found. `doubt_limit` is called when a message was larger than the server is known to take.

    Guarantee: tests/integration/enqueueing/test_ghosts.py: what failed is not stored later by anything that this
    process holds.
    """

    def __init__(
        self,
        connection: Connection,
        timeout: float,
        restore: Callable[[str], Awaitable[None]],
        trace: Callable[[JobRecord, float], Awaitable[PubAck | None]],
        doubt_limit: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._doubt_limit = doubt_limit
        self._timeout = timeout
        self._restore = restore
        self._domains = DomainWatch(connection)
        self._trace = trace
        self._inbox = connection.new_inbox() + "."
        self._pending: dict[str, _Pending] = {}
        self._token = 0
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._repeats: set[asyncio.Task[None]] = set()
        self._restoring: set[str] = set()

    async def start(self) -> None:
        """Listen for answers. Call this once, before the first publish."""
        await self._connection.subscribe(self._inbox + "*", self._on_answer)
        self._connection.on_up(self._repeat_all)
        self._connection.on_denied(self._refuse)

    def stop(self) -> None:
        """Give up every publish under way: their callers get NotStored."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for task in self._repeats:
            task.cancel()
        for pending in self._pending.values():
            if not pending.answer.done():
                self._fail(pending, f"the connection was closed before {pending.subject} was confirmed")
        self._pending.clear()

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, *, timeout: float | None = None
    ) -> PubAck:
        """Store one message and return the stream's answer.

        Raises PayloadTooLarge before anything is sent, Rejected if the stream refused the message, WrongSequence if the
        expected sequence does not hold, NotStored if no answer came within `timeout` seconds.
        """
        return await (await self.begin(subject, payload, headers, timeout=timeout))

    async def begin(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None,
        *,
        timeout: float | None = None,
        job: JobRecord | None = None,
    ) -> asyncio.Future[PubAck]:
        """Send one message, and return a future of what `publish` would return or raise.

        Use this for many messages. It waits for nothing but the network, when the network is behind. Raises
        PayloadTooLarge, BrokerUnavailable.
        """
        answer: asyncio.Future[PubAck] = self._loop.create_future()
        self.send(subject, payload, header_block(headers), answer, timeout=timeout, job=job)
        if self._connection.congested:
            try:
                await self._connection.drained()
            except BaseException:
                answer.cancel()
                raise
        return answer

    def send(
        self,
        subject: str,
        payload: bytes,
        block: bytes,
        answer: Answer,
        *,
        timeout: float | None = None,
        job: JobRecord | None = None,
    ) -> None:
        """Send one message without waiting: `answer` is told what `publish` would return or raise, never during this
        call.

        `block` has the headers, as `header_block` makes it. `job` is the job that is stored, if this is its enqueue;
        the job is looked for before it is sent again. A caller that sends many in a row must wait for the network, see
        `Connection.congested`. Without a connection the message is sent once there is one. Raises PayloadTooLarge,
        BrokerUnavailable.
        """
        if len(block) + len(payload) > self._connection.max_payload:
            raise self._too_large(subject, len(block) + len(payload))
        self._token += 1
        token = str(self._token)
        limit = self._timeout if timeout is None else timeout
        reply = self._inbox + token
        now = self._loop.time()
        pending = _Pending(subject, reply, payload, block, answer, job, now, now + limit, now + _UNANSWERED)
        if self._connection.offer(subject, payload, reply, block):
            pending.sent = True
            pending.unanswered = 1
        self._pending[token] = pending
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _too_large(self, subject: str, size: int) -> PayloadTooLarge:
        # A message over the limit makes the server reset the connection, and nats-py then closes for good (2.16).
        limit = self._connection.max_payload
        self._doubt_limit()
        return PayloadTooLarge(
            f"the message for {subject} has {size:,} bytes with its headers, the server takes {limit:,}"
        )

    def _too_large_now(self, pending: _Pending, size: int) -> BrokerError:
        """Return the error for a message that was sent, and that the server's present limit does not allow to repeat.

        A refusal for the message's size says something only of the last time the message was sent.

        Guarantee:
        tests/integration/enqueueing/test_max_payload.py::test_a_repeat_that_is_too_large_tells_nothing_of_the_first.
        """
        error = self._too_large(pending.subject, size)
        if self._connection.lost_by_size and pending.unanswered == 1:
            return error
        return NotStored(
            f"no confirmation for {pending.subject} in time, and it cannot be sent again: {error.message}",
            hint="it may be stored all the same, from before the server's limit was lowered",
        )

    def _on_answer(self, msg: Message) -> None:
        token = msg.subject[len(self._inbox) :]
        pending = self._pending.get(token)
        if pending is None:
            self._look_at_stray(msg)
            return
        if pending.answer.done():  # the caller went away
            del self._pending[token]
            return
        if not msg.data:  # a bare status: 503, no responders
            self._refused(pending)
            self._again(pending, "no stream takes this subject, or it has no leader")
            return
        try:
            ack = read_ack(msg.data)
        except msgspec.DecodeError:
            self._again(pending, "the answer was not JetStream's")
            return
        error = ack.error
        if error is None and ack.domain != self._connection.domain and self._domains.is_foreign(ack.stream, ack.domain):
            pending.refusal = f"stream {ack.stream} of JetStream domain {ack.domain!r} took it, which is not ours"
            return
        if error is not None:
            self._refused(pending)
            if error.err_code in IN_A_MOMENT:
                self._again(pending, error.description)
                return
        del self._pending[token]
        if error is None:
            pending.answer.set_result(ack)
        elif error.err_code == WRONG_LAST_SEQUENCE:
            pending.answer.set_exception(WrongSequence(error.description))
        else:
            message = f"{pending.subject} was refused: {error.description} (JetStream error {error.err_code})"
            if _is_of_size(error) and not pending.unanswered:
                pending.answer.set_exception(PayloadTooLarge(message, hint=HINTS.get(error.err_code)))
            else:
                self._fail(pending, message, HINTS.get(error.err_code))

    def _look_at_stray(self, msg: Message) -> None:
        """Look at a second answer: to a repeat, or from a second stream that took the message."""
        with contextlib.suppress(msgspec.DecodeError):
            ack = read_ack(msg.data)
            if ack.error is None:
                self._domains.is_foreign(ack.stream, ack.domain)

    def _refused(self, pending: _Pending) -> None:
        pending.unanswered = max(0, pending.unanswered - 1)

    def _fail(self, pending: _Pending, message: str, hint: str | None = None) -> None:
        """Tell the caller what is known: that the message is surely not stored, or that it may be stored."""
        kind: type[EnqueueError] = NotStored if pending.unanswered else Rejected if pending.sent else NotSent
        pending.answer.set_exception(kind(message, hint=hint))

    def _refuse(self, denied: str) -> None:
        """Tell each publish under way to `denied` (a subject in lower case) that the user may not publish there."""
        for pending in self._pending.values():
            if pending.subject.lower() == denied and not pending.answer.done():
                denial = Denied(pending.subject)
                # A message that was sent before may have been stored before the permission was taken away.
                self._refused(pending)
                pending.answer.set_exception(
                    NotStored(denial.message, hint=denial.hint) if pending.unanswered else denial
                )

    def _again(self, pending: _Pending, reason: str) -> None:
        pending.refusal = reason
        self._spawn(self._repeat(pending))

    async def _repeat(self, pending: _Pending) -> None:
        await asyncio.sleep(pending.backoff)
        pending.backoff = min(pending.backoff * 2, _LAST_BACKOFF)
        # Restore beside the repeat, because nothing is answered about a stream that is only waiting for its leader.
        stream = ".".join(pending.subject.split(".", 2)[:2])
        if stream not in self._restoring:
            self._restoring.add(stream)
            self._spawn(self._restore_once(stream, pending.subject))
        await self._send_again(pending)

    async def _restore_once(self, stream: str, subject: str) -> None:
        try:
            with contextlib.suppress(Exception):  # if it cannot restore now, a later repeat tries again
                await self._restore(subject)
        finally:
            self._restoring.discard(stream)

    def _repeat_all(self) -> None:
        for pending in list(self._pending.values()):
            self._spawn(self._send_again(pending))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._repeats.add(task)
        task.add_done_callback(self._repeats.discard)

    async def _send_again(self, pending: _Pending) -> None:
        with contextlib.suppress(BrokerError):  # no connection yet: its return sends this again, or time runs out
            if pending.answer.done() or await self._is_there(pending) or pending.answer.done():
                return
            size = len(pending.block) + len(pending.payload)
            if size > self._connection.max_payload:  # the limit may have been higher at first
                pending.answer.set_exception(self._too_large_now(pending, size))
            elif self._connection.offer(pending.subject, pending.payload, pending.reply, pending.block):
                pending.sent = True
                pending.unanswered += 1
                if self._connection.congested:
                    await self._connection.drained()

    async def _is_there(self, pending: _Pending) -> bool:
        """Return whether an earlier send stored the job; if so, tell the caller. Raises BrokerError."""
        if pending.job is None or pending.job.again or (pending.job.fresh and not pending.unanswered):
            return False  # what is left of an earlier job is no reason not to store one that may run again
        within = self._loop.time() - pending.began
        # A job with an id that its producer chose may have been sent before, by a caller who was told to try again.
        ack = await self._trace(pending.job, within if pending.unanswered else within + DEDUP_WINDOW)
        if ack is not None and not pending.answer.done():
            pending.answer.set_result(ack)
        return ack is not None

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._loop.time()
        over = [token for token, each in self._pending.items() if each.deadline <= now or each.answer.done()]
        for token in over:
            pending = self._pending.pop(token)
            if not pending.answer.done():
                self._give_up(pending)
        for pending in self._pending.values():
            if pending.overdue <= now:
                pending.patience *= 2
                pending.overdue = now + pending.patience
                self._spawn(self._send_again(pending))
        if self._pending:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _give_up(self, pending: _Pending) -> None:
        if not pending.sent:
            down = self._connection.why_down()
            self._fail(pending, f"{pending.subject} was not sent: {down.message}", down.hint)
        elif pending.unanswered:
            hint = "it may be stored all the same; a repeat with the same id is safe"
            because = f": {pending.refusal}" if pending.refusal else ""
            self._fail(pending, f"no confirmation for {pending.subject} in time{because}", hint)
        else:
            self._fail(pending, f"{pending.subject} was not taken in time: {pending.refusal}")
