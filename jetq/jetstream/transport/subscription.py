"""Interest in one subject, and the order in which its messages are handled."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from jetq.jetstream.transport.message import Message

__all__ = ["Subscription"]

_log = logging.getLogger("jetq.connection")


class Subscription:
    """Interest in one subject. The interest lasts through lost connections until `unsubscribe` or `drain`."""

    def __init__(
        self,
        subject: str,
        callback: Callable[[Message], Awaitable[None] | None],
        *,
        unlisten: Callable[[], None],
        catch_up: Callable[[float], Awaitable[None]],
        forget: Callable[[], None],
    ) -> None:
        """Take the parts that `Connection.subscribe` gives; call that instead.

        `unlisten` tells the server of the end. `catch_up` waits at most a given number of seconds until all is read
        that the server sent before it knew of the end. `forget` ends the delivery.
        """
        self._callback = callback
        self._unlisten = unlisten
        self._catch_up = catch_up
        self._forget = forget
        self._queue: deque[Message] = deque()
        self._running: asyncio.Task[None] | None = None
        self.subject = subject
        self.deliver: Callable[[Message], None] = (
            self._later if inspect.iscoroutinefunction(callback) else self._at_once
        )

    async def unsubscribe(self) -> None:
        """End the interest. No callback starts after this. Never raises, whatever the connection's state."""
        self._unlisten()
        self._forget()
        self._queue.clear()

    async def drain(self, timeout: float = 5.0) -> None:
        """End the interest, but call the callback for the messages that the server sent before it knew of the end.

        Only messages count that arrive within `timeout` seconds while the connection lasts. Never raises.
        """
        self._unlisten()
        await self._catch_up(timeout)
        self._forget()
        if self._running is not None and self._running is not asyncio.current_task():
            await asyncio.wait([self._running], timeout=timeout)

    def _at_once(self, msg: Message) -> None:
        try:
            self._callback(msg)
        except Exception:
            _log.exception("the handler of %s failed", self.subject)

    def _later(self, msg: Message) -> None:
        # A task runs only while there is something to do, so that none is left over when the loop ends.
        self._queue.append(msg)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(
                self._run(), name=f"jetq-subscription {self.subject}"
            )

    async def _run(self) -> None:
        try:
            while self._queue:
                awaitable = self._callback(self._queue.popleft())
                try:
                    if awaitable is not None:
                        await awaitable
                except Exception:
                    _log.exception("the handler of %s failed", self.subject)
        finally:
            self._running = None
