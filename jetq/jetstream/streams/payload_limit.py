"""How much the server takes in one message, found out anew where the limit matters."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from jetq.errors import JetqError
from jetq.jetstream.transport.connection import Connection

__all__ = ["PayloadLimit"]

_log = logging.getLogger("jetq.jetstream")

_BELIEVED = 10.0
"""Seconds between two looks at the limit. Each look opens a connection of its own for a moment."""


class PayloadLimit:
    """Looks at the limit by a new connection, because a server that reads its configuration again tells nobody of a new
    limit (nats-server 2.15.1).

    A refusal by the server shows that it takes less than before; nothing shows that it takes more.

    Guarantee:
    tests/integration/enqueueing/test_max_payload.py::test_a_limit_that_is_raised_without_a_restart_is_noticed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._not_before = 0.0
        self._looking: asyncio.Task[None] | None = None

    def doubt(self) -> None:
        """Look soon whether a message that was too large still would be. From any thread; returns at once."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._connection.loop.call_soon_threadsafe(self._look)

    def stop(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        now = self._connection.loop.time()
        if now >= self._not_before and self._connection.connected:
            self._not_before = now + _BELIEVED
            self._looking = self._connection.loop.create_task(self._ask(), name="jetq-payload-limit")

    async def _ask(self) -> None:
        try:
            client = await self._connection.another(f"{self._connection.name}-limit")
        except JetqError as error:  # the next message that is too large causes another look
            _log.debug("what the server takes in one message is not known anew: %s", error.message)
            return
        self._connection.limit(client)
        client.drop("asked")
