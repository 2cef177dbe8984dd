"""Messages to workers from outside: which jobs are cancelled, and questions about the jobs that workers hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from jetq.broker.numbers import REMEMBERED
from jetq.jetstream.broker.base import TTL, WRITE_WITHIN, Base
from jetq.jetstream.broker.cells import watch_state
from jetq.jetstream.transport.connection import Subscription
from jetq.jetstream.transport.message import Message

__all__ = ["Fleet", "ask_workers"]

_MARK = b"1"
_NO_MARK = b"0"


class Fleet(Base):
    """See `jetq.broker.fleet.Fleet`."""

    async def mark_cancelled(self, queue: str, id: str) -> None:
        # The message that stores the mark is also the one that tells the workers, as with results.
        await self.ensure_shared()
        headers = {TTL: f"{REMEMBERED}s"}
        await self.publisher.publish(self.subjects.cancelled(queue, id), _MARK, headers, timeout=WRITE_WITHIN)

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        subject = self.subjects.cancelled(queue, id)
        await self.publisher.publish(subject, _NO_MARK, {TTL: f"{REMEMBERED}s"}, timeout=WRITE_WITHIN)

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        prefix = self.subjects.cancelled(queue, "").removesuffix(".")
        await watch_state(self, prefix, lambda id, mark: on_mark(id, mark == _MARK))

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        return await ask_workers(self, queue, question, timeout, enough)

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> Subscription:
        def on_question(msg: Message) -> None:
            reply = respond(msg.data)
            if reply is not None and msg.reply:
                self.connection.send(msg.reply, reply)

        return await self.connection.subscribe(self.subjects.questions(queue), on_question)


async def ask_workers(
    base: Base, queue: str, question: bytes, timeout: float, enough: int | None = None
) -> Sequence[bytes]:
    """Return what the live workers of `queue` answer within `timeout` seconds, or the first `enough` answers."""
    answers: list[bytes] = []
    done = asyncio.Event()
    inbox = base.connection.new_inbox()

    def on_answer(msg: Message) -> None:
        if msg.data:
            answers.append(msg.data)
        if not msg.data or len(answers) == enough:  # without data it is the server's word that nobody listens
            done.set()

    subscription = await base.connection.subscribe(inbox, on_answer)
    try:
        await base.connection.publish(base.subjects.questions(queue), question, inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await done.wait()
    finally:
        await subscription.unsubscribe()
    return answers[:enough]  # several answers may have come at once
