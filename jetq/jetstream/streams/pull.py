"""The flow of deliveries to a worker: long pull requests on an inbox of the worker's own.

nats-py's `fetch` is not used: it hides a deleted consumer, sleeps through a restart, and takes a job with a header
named `Status` for a status (nats-py 2.16). Here a job is a message whose reply starts with `$JS.ACK.`. Every other
message on the inbox is a status frame of one request, which the last token of the message's subject names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from jetq.errors import BrokerError
from jetq.jetstream.streams.acks import Acks
from jetq.jetstream.streams.subjects import ACK_PREFIX, ack_fields, job_tokens, tick_of
from jetq.jetstream.transport.connection import Connection, NoReply, Subscription
from jetq.jetstream.transport.message import Message
from jetq.model.job import Delivery, Level
from jetq.runtime.backoff import backoff
from jetq.runtime.clock import steady

__all__ = ["REPLACES", "Pull"]

REPLACES = "Jetq-Replaces"
"""Header of a next attempt or a give-back: the sequence of the message before it in the job's life."""

_log = logging.getLogger("jetq.jetstream")

_EXPIRES = 10
_SEQUENCE_DIGITS = 20
"""The most digits of a number that a stream can count to."""

_HEARTBEAT = 5
_TICK = 0.2
_BLOCKED = 1.0
_FIRST_BACKOFF = 0.25
_LAST_BACKOFF = 5.0
_STEADY = 10.0
"""Seconds for which requests must have waited without an end if the next are to be made at once."""

_SECOND = 1_000_000_000
_BYTES = 16 * 1024 * 1024
"""The most bytes of messages that one request brings; two or three requests wait at a time. The server hangs up on a
client that leaves 64 MiB unread, as a client with a blocked loop does. What the server had sent would then come back
when its leases end, as suspects."""

_BYTES_OF_ONE = 40 * 1024 * 1024
"""The most bytes of a request for one message that is larger than `_BYTES`. JetStream stores 32 MiB at most."""


class Pull:
    """One worker's pull on one consumer. See `broker.Feed` for what callers may rely on.

    `acks` has the acks of the deliveries that the pull hands out. `remove` removes, by its sequence, the message that a
    delivery succeeds. `restore` is awaited when the consumer does not answer: it creates what is missing, and returns
    when the present consumer was made; `made` is that time at first. With levels, `pending` returns how many messages
    the consumer has left, and `on_clear` is called when it has none.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        level: Level,
        subject: str,
        deliver: Callable[[Delivery], None],
        *,
        acks: Acks,
        remove: Callable[[Delivery, int], Awaitable[None]],
        restore: Callable[[], Awaitable[str]],
        made: str,
        pending: Callable[[], Awaitable[int | None]] | None = None,
        on_clear: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._level: Level = level
        self._subject = subject
        self._deliver = deliver
        self._acks = acks
        self._remove = remove
        self._count_pending = pending
        self._on_clear = on_clear
        self._left: int | None = None
        self._counting: asyncio.Task[None] | None = None
        self._successors: set[asyncio.Task[None]] = set()
        self._restore = restore
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._asked = 0
        self._request = 0
        self._requests: dict[str, int] = {}
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._heard = self._loop.time()
        self._previous_tick = self._tick_at = steady()
        self._ticker: asyncio.TimerHandle | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        self._reopen_after = 0.0
        self._stopped = False

    async def start(self) -> None:
        """Open the inbox. Nothing is delivered before `ask`."""
        await self._open_inbox()
        self._connection.on_up(self._on_reconnected)
        self._ticker = self._loop.call_later(_TICK, self._tick)

    @property
    def asked(self) -> int:
        """The number of deliveries asked for and not yet arrived."""
        return self._asked

    @property
    def left(self) -> int | None:
        """See `broker.Feed.left`."""
        return self._left

    @property
    def problem(self) -> str | None:
        """See `broker.Feed.problem`."""
        if not self._connection.connected:
            return f"queue {self._queue}: there is no connection"
        return None if self._reopening is None else f"queue {self._queue}: the consumer does not answer"

    def ask(self, slots: int) -> None:
        """See `broker.Feed.ask`."""
        if slots > self._asked and not self._stopped:
            self._send_request(slots - self._asked)

    def expect(self, by: str | None) -> None:
        """See `broker.Feed.expect`."""
        if by != self._made:
            self._reopen()

    async def stop(self) -> None:
        """See `broker.Feed.stop`."""
        self._stopped = True
        if self._ticker is not None:
            self._ticker.cancel()
        self._connection.off_up(self._on_reconnected)
        for task in (self._reopening, self._catching_up, self._counting):
            if task is not None:
                task.cancel()
        if self._subscription is not None:
            # In this order, so that what the server sent before it knew of the end still arrives here and can be given
            # back.
            await self._subscription.drain()
            self._subscription = None
        if self._successors:
            await asyncio.wait(self._successors)

    async def _open_inbox(self) -> None:
        old, self._subscription = self._subscription, None
        self._inbox = self._connection.new_inbox() + "."
        self._requests.clear()
        self._subscription = await self._connection.subscribe(self._inbox + "*", self._on_message)
        self._opened_at = self._loop.time()
        if old is not None:
            await old.unsubscribe()

    def _send_request(self, batch: int, most: int = _BYTES) -> None:
        if self._count_pending is not None and not self._asked:
            self._left = self._left or None  # nothing was heard while nothing was asked for
            self._count()
        self._asked += batch
        if self._reopening is not None:  # the new inbox asks for everything again
            return
        self._request += 1
        token = str(self._request)
        self._remember_request(token, batch)
        body = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d' % (batch, _EXPIRES * _SECOND, _HEARTBEAT * _SECOND)
        # Only where the limit may matter: a request with a limit ends with a status of its own.
        body += b',"max_bytes":%d}' % most if batch * self._connection.max_payload > _BYTES else b"}"
        try:
            self._connection.send(self._subject, body, self._inbox + token)
        except BrokerError as error:  # the connection is lost; its return opens a new inbox
            _log.warning("queue %s cannot be asked for jobs: %s", self._queue, error.message)

    def _remember_request(self, token: str, batch: int) -> None:
        self._requests[token] = batch
        if len(self._requests) > 512:  # the server's limit of waiting requests; fulfilled ones end silently
            self._requests.pop(next(iter(self._requests)))

    def _on_message(self, msg: Message) -> None:
        self._heard = self._loop.time()
        if msg.reply.startswith(ACK_PREFIX):
            self._reopen_after = 0.0
            self._on_job(msg)
        else:
            self._on_status(msg)

    def _on_job(self, msg: Message) -> None:
        count, sequence, nanoseconds, self._left = ack_fields(msg.reply)
        _, task, key, id = job_tokens(msg.subject, sequence)
        delivery = Delivery(
            queue=self._queue,
            task=task,
            key=key,
            id=id,
            body=msg.data,
            headers=msg.headers,
            sequence=sequence,
            count=count,
            stored_at=nanoseconds / _SECOND,
            since=self._previous_tick,
            token=msg.reply,
            address=msg.subject,
            level=self._level,
            handed_out_by=self._made,
        )
        if not task:
            delivery.schedule = tick_of(msg.subject)
            delivery.next_at = _instant(delivery.headers.get("Nats-Schedule-Next", ""))
        if REPLACES in delivery.headers:
            handing_out = self._loop.create_task(self._hand_out_successor(delivery), name="jetq-successor")
            self._successors.add(handing_out)
            handing_out.add_done_callback(self._successors.discard)
        else:
            self._hand_out(delivery)

    def _hand_out(self, delivery: Delivery) -> None:
        if self._asked:
            self._asked -= 1
        if self._acks.has_settled(delivery):
            self._acks.add(delivery)
            self._send_request(1)
        else:
            self._deliver(delivery)

    async def _hand_out_successor(self, delivery: Delivery) -> None:
        """Hand out `delivery` after removing the message that it succeeds.

        If the worker of the succeeded message died before the ack, that message would come back and run again.
        """
        replaced = delivery.headers[REPLACES]
        try:
            if replaced.isdecimal() and len(replaced) <= _SEQUENCE_DIGITS:
                await self._remove(delivery, int(replaced))
        except BrokerError as error:
            _log.warning("queue %s: an earlier attempt may run again: %s", self._queue, error.message)
        self._hand_out(delivery)

    def _on_status(self, msg: Message) -> None:
        headers = msg.headers
        status = headers.get("Status", "")
        if status == "100" or self._stopped:  # idle heartbeat
            return
        batch = self._requests.pop(msg.subject[len(self._inbox) :], 0)
        left = headers.get("Nats-Pending-Messages", "")
        unfulfilled = int(left) if left.isdecimal() else batch
        description = headers.get("Description", "")
        if description == "Batch Completed":
            return
        if description == "Message Size Exceeds MaxBytes":  # all messages before were read, so more may come
            self._asked = max(0, self._asked - unfulfilled)
            if unfulfilled and unfulfilled == batch:
                self._send_request(1, _BYTES_OF_ONE)
                unfulfilled -= 1
            if unfulfilled:
                self._send_request(unfulfilled)
        elif status == "408" or description == "Exceeded MaxWaiting":
            # A quiet queue keeps a request for one job. The worker may ask again for the rest, of any queue.
            self._asked = max(0, self._asked - unfulfilled)
            if not self._asked and unfulfilled:
                self._send_request(1)
        else:  # 409 consumer deleted, leadership change, server shutdown; 503 no consumer
            _log.info("pull on queue %s ended: %s %s", self._queue, status, description)
            self._reopen()

    def _on_reconnected(self) -> None:
        self._reopen()

    def _reopen(self) -> None:
        if self._reopening is None and not self._stopped:
            self._reopening = self._loop.create_task(self._open_again(), name="jetq-reopen-pull")

    async def _open_again(self) -> None:
        """Open a new inbox, and ask again for what was asked for: requests on the old inbox may be gone or not."""
        if self._loop.time() - self._opened_at < _STEADY:  # requests that end at once must not spin
            await asyncio.sleep(self._reopen_after)
            self._reopen_after = min(max(2 * self._reopen_after, _FIRST_BACKOFF), _LAST_BACKOFF)
        else:
            self._reopen_after = 0.0
        for pause in backoff(_FIRST_BACKOFF, _LAST_BACKOFF):
            try:
                self._made = await self._restore()
                await self._open_inbox()
                break
            except BrokerError as error:
                _log.warning("queue %s: %s; trying again in %g s", self._queue, error.message, pause)
            except Exception:  # a fault in jetq must not leave the queue unserved for good
                _log.exception("queue %s cannot be asked for jobs; trying again in %g s", self._queue, pause)
            await asyncio.sleep(pause)
        self._reopening = None
        self._heard = self._loop.time()
        wanted, self._asked = self._asked, 0
        if wanted:
            self._send_request(wanted)

    def _tick(self) -> None:
        # What is read after the loop was blocked was delivered at an unknown time during the block. So a lease counts
        # from the tick before the last one: earlier than the delivery by up to 0.4 s, and never later.
        ticked_at, self._tick_at = self._tick_at, steady()
        if self._tick_at - ticked_at > _BLOCKED and self._catching_up is None:
            self._catching_up = self._loop.create_task(self._catch_up(), name="jetq-catch-up")
        elif self._catching_up is None:
            self._previous_tick = ticked_at
        if self._count_pending is not None and self._asked and self._left != 0:
            self._count()
        now = self._loop.time()
        if self._asked and now - self._heard > 2 * _HEARTBEAT + _TICK:
            self._heard = now
            self._reopen()
        self._ticker = self._loop.call_later(_TICK, self._tick)

    def _count(self) -> None:
        if self._counting is None and not self._stopped:
            self._counting = self._loop.create_task(self._ask_what_is_left(), name="jetq-count-pending")

    async def _ask_what_is_left(self) -> None:
        """Ask the consumer how many messages are left: a request that waits does not tell whether there were any."""
        assert self._count_pending is not None
        try:
            left = await self._count_pending()
        except BrokerError as error:
            _log.debug("queue %s: what is left of level %s is not known: %s", self._queue, self._level, error.message)
            return
        finally:
            self._counting = None
        if left is not None and self._asked:
            self._left = left
            if not left and self._on_clear is not None:
                self._on_clear()

    async def _catch_up(self) -> None:
        """Wait for an echo after a block: once the echo is back, all that was delivered meanwhile has been read."""
        try:
            await self._connection.ping(_HEARTBEAT)
        except (NoReply, BrokerError):
            pass  # the connection is gone, and its return opens a new inbox
        self._previous_tick = self._tick_at
        self._catching_up = None


def _instant(text: str) -> float | None:
    """Return the unix seconds of a time as the server writes it; None for any other text."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
