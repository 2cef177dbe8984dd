"""Replies to requests on an inbox of the connection's own, and what becomes of a request without a reply."""

from __future__ import annotations

import asyncio

from jetq.jetstream.transport.connection_log import NoReply, NoResponders, NotAllowed
from jetq.jetstream.transport.message import Message

__all__ = ["NoReply", "NoResponders", "NotAllowed", "Replies", "Unsent"]


class Unsent(NoReply):
    """There was no connection: the request was surely not sent, and never will be."""


class Replies:
    """The requests under way. Their replies come on subjects below `inbox`."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox + "."
        self._count = 0
        self._waiting: dict[str, tuple[str, asyncio.Future[Message]]] = {}

    @property
    def subjects(self) -> str:
        """The subject, with a wildcard, on which all replies come."""
        return self._inbox + "*"

    def expect(self, subject: str = "") -> tuple[str, asyncio.Future[Message]]:
        """Return the subject on which the reply to a request to `subject` has to come, and a future of the reply.

        Give the returned subject to `forget` afterwards.
        """
        self._count += 1
        inbox = f"{self._inbox}{self._count}"
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[inbox] = (subject, reply)
        return inbox, reply

    def forget(self, inbox: str) -> None:
        """Stop waiting for the reply on `inbox`."""
        _, reply = self._waiting.pop(inbox)
        if reply.done() and not reply.cancelled():
            reply.exception()  # so that a request cancelled as it failed leaves no "never retrieved" behind

    def hear(self, msg: Message) -> None:
        """Hand a message that came to the inbox to the request that waits for it."""
        _, reply = self._waiting.get(msg.subject, ("", None))
        if reply is not None and not reply.done():
            reply.set_result(msg)

    def deny(self, denied: str) -> None:
        """Fail the requests to `denied`, a subject in lower case: the user may not publish there."""
        for subject, reply in self._waiting.values():
            if subject.lower() == denied and not reply.done():
                reply.set_exception(NotAllowed(f"no permission to publish to {subject}"))

    def fail(self, reason: str) -> None:
        """Fail all requests sent so far: no reply comes any more."""
        for _, reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(NoReply(reason))
