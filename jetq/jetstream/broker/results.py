"""Results: stored for a while, and pushed to whoever waits by the very message that stores them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import lru_cache

import msgspec

from jetq.encoding.headers import read_result
from jetq.errors import BrokerError
from jetq.jetstream.broker.base import EXPECTED, TTL, WRITE_WITHIN, Ground
from jetq.jetstream.streams.publisher import PubAck, Told, WrongSequence
from jetq.jetstream.transport.connection import NoReply
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import header_block
from jetq.model.result import ResultRecord

__all__ = ["Results"]

_encode = msgspec.json.Encoder().encode


class Results(Ground):
    """The part of the broker that keeps results. See `jetq.broker.Broker`."""

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        await self._ensure_shared()
        subject, body, headers = self._names.result(result.id), _encode(result), _ttl(ttl)
        if not unless_kept:
            await self._publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
            return True
        instead_of: int | None = 0
        while instead_of is not None:
            headers[EXPECTED] = str(instead_of)
            try:
                await self._publisher.publish(subject, body, headers, timeout=WRITE_WITHIN)
                return True
            except WrongSequence:
                instead_of = await self._in_the_way(subject, result.queue)
        return False

    async def _in_the_way(self, subject: str, queue: str) -> int | None:
        """The sequence of what a result of `queue` may take the place of, 0 for nothing; None if it may not."""
        message = await self._api.last_message(self._names.results, subject)
        if message is None:
            return 0
        kept = read_result(message.data)
        return None if kept is None or kept.queue == queue else message.sequence

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        if not self._shared or not self._connection.free:
            return False
        subject = self._names.result(result.id)
        try:
            self._publisher.send(
                subject, _encode(result), _ttl_block(ttl), Told(on_done, _nothing), timeout=WRITE_WITHIN
            )
        except BrokerError:
            return False
        return True

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        message = await self._api.last_message(self._names.results, self._names.result(id))
        return None if message is None else read_result(message.data, queue)

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        arrived: asyncio.Future[ResultRecord] = asyncio.get_running_loop().create_future()

        def on_push(msg: Message) -> None:
            record = read_result(msg.data, queue)
            if record is not None and not arrived.done():
                arrived.set_result(record)

        subscription = await self._connection.subscribe(self._names.result(id), on_push)
        try:
            # In this order: once the server knows the subscription, a result is either stored already or still pushed.
            async with asyncio.timeout(timeout):
                await self._connection.ping(timeout)
                stored = await self.get_result(queue, id)
                return stored if stored is not None else await arrived
        except (TimeoutError, NoReply):
            return None
        finally:
            await subscription.unsubscribe()


def _ttl(seconds: float) -> dict[str, str]:
    return {TTL: str(max(1, math.ceil(seconds)))}


@lru_cache(1024)
def _ttl_block(seconds: float) -> bytes:
    return header_block(_ttl(seconds))


def _nothing(_: PubAck) -> None:
    """What there is to know of a result that is stored."""
