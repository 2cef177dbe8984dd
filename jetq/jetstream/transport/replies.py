"""Replies to requests, by an inbox of the connection's own, and what becomes of a request that gets none."""

from __future__ import annotations

import asyncio

from jetq.jetstream.transport.connection_log import NoReply, NoResponders, NotAllowed
from jetq.jetstream.transport.message import Message

__all__ = ["NoReply", "NoResponders", "NotAllowed", "Replies", "Unsent"]


class Unsent(NoReply):
    """There was no connection: it was surely not asked, and never will be."""


class Replies:
    """The requests under way. inbox: below which subject their replies come."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox + "."
        self._count = 0
        self._waiting: dict[str, tuple[str, asyncio.Future[Message]]] = {}

    @property
    def subjects(self) -> str:
        """Where all replies come."""
        return self._inbox + "*"

    def expect(self, subject: str = "") -> tuple[str, asyncio.Future[Message]]:
        """Where the reply to what is sent to `subject` has to come, and when it has. To be given to `forget` then."""
        self._count += 1
        inbox = f"{self._inbox}{self._count}"
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[inbox] = (subject, reply)
        return inbox, reply

    def forget(self, inbox: str) -> None:
        """Nobody waits for it any more."""
        _, reply = self._waiting.pop(inbox)
        if reply.done() and not reply.cancelled():
            reply.exception()  # a request that was cancelled as it failed leaves no "never retrieved" behind

    def hear(self, msg: Message) -> None:
        """A message came to the inbox."""
        _, reply = self._waiting.get(msg.subject, ("", None))
        if reply is not None and not reply.done():
            reply.set_result(msg)

    def deny(self, denied: str) -> None:
        """The user may not publish to `denied`, in lower case."""
        for subject, reply in self._waiting.values():
            if subject.lower() == denied and not reply.done():
                reply.set_exception(NotAllowed(f"no permission to publish to {subject}"))

    def fail(self, reason: str) -> None:
        """No reply comes any more to what was sent so far."""
        for _, reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(NoReply(reason))
