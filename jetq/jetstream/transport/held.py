"""What waits for a lost connection: senders, and messages that nobody is told about.

The messages are acknowledgements, pull requests and signals. A message whose sender is told of its fate may not be
among them: it would be sent although it was reported as failed.
"""

from __future__ import annotations

import asyncio

__all__ = ["Comeback", "Held"]

_MOST = 8 * 1024 * 1024
_BESIDE = 64
"""Bytes that a message takes beside its parts."""


class Held:
    """Holds at most 8 MiB of messages, in order."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bytes, str, bytes]] = []
        self._size = 0

    def add(self, subject: str, payload: bytes, reply: str, block: bytes) -> bool:
        """Hold a message. Return False, and do not hold it, if too many bytes are held."""
        size = len(payload) + len(block) + len(subject) + len(reply) + _BESIDE
        if self._size + size > _MOST:
            return False
        self._messages.append((subject, payload, reply, block))
        self._size += size
        return True

    def take(self) -> list[tuple[str, bytes, str, bytes]]:
        """Return all messages, which are held no longer."""
        messages, self._messages = self._messages, []
        self._size = 0
        return messages


class Comeback:
    """Lets callers wait for the next connection."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait until the connection is back, or closed."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def notify(self) -> None:
        """Let all callers of `wait` go on."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
