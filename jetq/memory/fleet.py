"""Verbs by which workers of memory brokers hear of cancelled jobs and of questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from jetq.broker.numbers import REMEMBERED
from jetq.memory.base import Base

__all__ = ["Fleet", "ask_workers"]


class Fleet(Base):
    """See `jetq.broker.fleet.Fleet`."""

    async def mark_cancelled(self, queue: str, id: str) -> None:
        self._mark(queue, id, True)

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        self._mark(queue, id, False)

    def _mark(self, queue: str, id: str, cancelled: bool) -> None:
        with self.store.lock:
            self.use()
            marks = self.store.cancelled.setdefault(queue, {})
            if cancelled:
                marks[id] = self.store.now() + REMEMBERED
            else:
                marks.pop(id, None)
            watchers = list(self.store.watchers.get(queue, ()))
        for notify in watchers:
            notify(id, cancelled)

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        loop = asyncio.get_running_loop()

        def notify(id: str, cancelled: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the watcher's loop is closed
                loop.call_soon_threadsafe(on_mark, id, cancelled)

        with self.store.lock:
            self.use()
            self.store.watchers.setdefault(queue, []).append(notify)
            self.undo.append(lambda: self.store.watchers[queue].remove(notify))
            marked = [id for id, until in self.store.cancelled.get(queue, {}).items() if until > self.store.now()]
        for id in marked:
            on_mark(id, True)

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        return await ask_workers(self, queue, question, timeout, enough)

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> None:
        loop = asyncio.get_running_loop()

        def on_question(question: bytes, reply: Callable[[bytes | None], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                loop.call_soon_threadsafe(lambda: reply(respond(question)))

        with self.store.lock:
            self.use()
            self.store.responders.setdefault(queue, []).append(on_question)
            self.undo.append(lambda: self.store.responders[queue].remove(on_question))


async def ask_workers(
    base: Base, queue: str, question: bytes, timeout: float, enough: int | None = None
) -> Sequence[bytes]:
    """Return the answers that the workers of `queue` give within `timeout` seconds, or the first `enough` of them."""
    loop = asyncio.get_running_loop()
    with base.store.lock:
        base.use()
        responders = list(base.store.responders.get(queue, ()))
    arrived: asyncio.Queue[bytes | None] = asyncio.Queue()

    def on_reply(reply: bytes | None) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, reply)

    for respond in responders:
        respond(question, on_reply)
    answers: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for _ in responders:
                if enough is not None and len(answers) >= enough:
                    break
                if (reply := await arrived.get()) is not None:
                    answers.append(reply)
    return answers
