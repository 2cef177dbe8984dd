"""Results in memory, kept for their time, and sent to the callers that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from jetq.errors import BrokerError, PayloadTooLarge
from jetq.memory.base import Base, settle
from jetq.memory.sizes import MAX_PAYLOAD
from jetq.model.result import ResultRecord

__all__ = ["Results"]

_encode = msgspec.json.Encoder().encode
_decode_result = msgspec.json.Decoder(ResultRecord).decode


class Results(Base):
    """See `jetq.broker.results.Results`."""

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        return self._keep_result(result, ttl, unless_kept=unless_kept)

    def send_result(self, result: ResultRecord, ttl: float, on_done: Callable[[BrokerError | None], None]) -> bool:
        try:
            self._keep_result(result, ttl)
        except BrokerError:
            return False
        asyncio.get_running_loop().call_soon(on_done, None)
        return True

    def _keep_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        encoded = _encode(result)
        if len(encoded) > MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"the result of job {result.id} has {len(encoded):,} bytes, the limit is {MAX_PAYLOAD:,}"
            )
        record = _decode_result(encoded)
        with self.store.lock:
            self.use()
            if unless_kept and self.store.result(record.queue, record.id) is not None:
                return False
            self.store.put_result(record, max(1.0, ttl))
            return True

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        with self.store.lock:
            self.use()
            return self.store.result(queue, id)

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[ResultRecord | None] = loop.create_future()

        def on_result(record: ResultRecord) -> None:
            if record.queue == queue:
                loop.call_soon_threadsafe(settle, arrived, record)

        with self.store.lock:
            self.use()
            stored = self.store.result(queue, id)
            if stored is not None:
                return stored
            stop_listening = self.store.listen(id, on_result)
        try:
            return await self.arrival(arrived, timeout)
        finally:
            stop_listening()
