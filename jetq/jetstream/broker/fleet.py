"""What workers hear from outside: which jobs are cancelled, and questions about what they hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from jetq.jetstream.broker.base import TTL, WRITE_WITHIN
from jetq.jetstream.broker.cells import Cells
from jetq.jetstream.transport.connection import Subscription
from jetq.jetstream.transport.message import Message

__all__ = ["Fleet"]

_REMEMBERED = 60
"""Seconds for which it stands that a job is cancelled: far longer than a removed schedule may still fire, and less than
the two minutes in which an enqueue under the same id is taken for a repeat."""

_MARK = b"1"
_NO_MARK = b"0"


class Fleet(Cells):
    """The part of the broker by which producers reach workers. See `jetq.broker.Broker`."""

    async def mark_cancelled(self, queue: str, id: str) -> None:
        # The message that stores it is also the one that tells the workers, as with results.
        await self._ensure_shared()
        headers = {TTL: f"{_REMEMBERED}s"}
        await self._publisher.publish(self._names.cancelled(queue, id), _MARK, headers, timeout=WRITE_WITHIN)

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        subject = self._names.cancelled(queue, id)
        await self._publisher.publish(subject, _NO_MARK, {TTL: f"{_REMEMBERED}s"}, timeout=WRITE_WITHIN)

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        prefix = self._names.cancelled(queue, "").removesuffix(".")
        await self._watch(prefix, lambda id, mark: on_mark(id, mark == _MARK))

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        answers: list[bytes] = []
        done = asyncio.Event()
        inbox = self._connection.new_inbox()

        def on_answer(msg: Message) -> None:
            if msg.data:
                answers.append(msg.data)
            if not msg.data or len(answers) == enough:  # no data: the server's word that nobody listens
                done.set()

        subscription = await self._connection.subscribe(inbox, on_answer)
        try:
            await self._connection.publish(self._names.questions(queue), question, inbox)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await done.wait()
        finally:
            await subscription.unsubscribe()
        return answers[:enough]  # more may have come at once

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> Subscription:
        def on_question(msg: Message) -> None:
            reply = respond(msg.data)
            if reply is not None and msg.reply:
                self._connection.send(msg.reply, reply)

        return await self._connection.subscribe(self._names.questions(queue), on_question)
