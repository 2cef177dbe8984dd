"""Results: stored for a while, and pushed to callers who wait, by the same message that stores the result."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import lru_cache

import msgspec

from jetq.encoding.headers import read_result
from jetq.errors import BrokerError
from jetq.jetstream.broker.base import EXPECTED, TTL, WRITE_WITHIN, Base
from jetq.jetstream.streams.publisher import CallbackAnswer, PubAck, WrongSequence
from jetq.jetstream.transport.connection import NoReply
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.result import ResultRecord

__all__ = ["Results", "kept_result"]

_encode = msgspec.json.Encoder().encode


class Results(Base):
    """See `jetq.broker.results.Results`."""

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        await self.ensure_shared()
        subject, body, headers = self.subjects.result(result.id), _encode(result), _ttl(ttl)
        if not unless_kept:
            await self.publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
            return True
        instead_of: int | None = 0
        while instead_of is not None:
            headers[EXPECTED] = str(instead_of)
            try:
                await self.publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
                return True
            except WrongSequence:
                instead_of = await self._in_the_way(subject, result.queue)
        return False

    async def _in_the_way(self, subject: str, queue: str) -> int | None:
        """Return the sequence of the stored result that a result of `queue` may replace; 0 if none is stored.

        None means that the stored result may not be replaced, because it is of the same queue or cannot be read.
        """
        message = await self.api.last_message(self.subjects.results, subject)
        if message is None:
            return 0
        kept = read_result(message.data)
        return None if kept is None or kept.queue == queue else message.sequence

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        if not self.has_shared or not self.connection.free:
            return False
        subject = self.subjects.result(result.id)
        try:
            self.publisher.send(
                subject, _encode(result), _ttl_block(ttl), CallbackAnswer(on_done, _nothing), timeout=WRITE_WITHIN
            )
        except BrokerError:
            return False
        return True

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        return await kept_result(self, queue, id)

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        arrived: asyncio.Future[ResultRecord] = asyncio.get_running_loop().create_future()

        def on_push(msg: Message) -> None:
            record = read_result(msg.data, queue)
            if record is not None and not arrived.done():
                arrived.set_result(record)

        subscription = await self.connection.subscribe(self.subjects.result(id), on_push)
        try:
            # In this order: once the server knows the subscription, a result is either stored already or is still
            # pushed.
            async with asyncio.timeout(timeout):
                await self.connection.ping(timeout)
                stored = await self.get_result(queue, id)
                return stored if stored is not None else await arrived
        except (TimeoutError, NoReply):
            return None
        finally:
            await subscription.unsubscribe()


async def kept_result(base: Base, queue: str | None, id: str) -> ResultRecord | None:
    """Return the result kept for job `id` of `queue`; None if there is none. If `queue` is None, any queue will do."""
    message = await base.api.last_message(base.subjects.results, base.subjects.result(id))
    return None if message is None else read_result(message.data, queue)


def _ttl(seconds: float) -> dict[str, str]:
    return {TTL: str(max(1, math.ceil(seconds)))}


@lru_cache(1024)
def _ttl_block(seconds: float) -> bytes:
    return header_block(_ttl(seconds))


def _nothing(_: PubAck) -> None:
    """Return None: a result that is stored has nothing more to tell."""
