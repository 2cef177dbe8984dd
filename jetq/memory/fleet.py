"""By which workers of memory brokers hear of cancelled jobs and questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from jetq.memory.records import MemoryRecords

__all__ = ["MemoryFleet"]

_REMEMBERED = 60.0


class MemoryFleet(MemoryRecords):
    """The part of the memory broker by which producers reach workers. See `jetq.broker.Broker`."""

    async def mark_cancelled(self, queue: str, id: str) -> None:
        self._mark(queue, id, True)

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        self._mark(queue, id, False)

    def _mark(self, queue: str, id: str, cancelled: bool) -> None:
        with self.store.lock:
            self._use()
            marks = self.store.cancelled.setdefault(queue, {})
            if cancelled:
                marks[id] = self.store.now() + _REMEMBERED
            else:
                marks.pop(id, None)
            watchers = list(self.store.watchers.get(queue, ()))
        for tell in watchers:
            tell(id, cancelled)

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        loop = asyncio.get_running_loop()

        def tell(id: str, cancelled: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the watcher's loop is closed
                loop.call_soon_threadsafe(on_mark, id, cancelled)

        with self.store.lock:
            self._use()
            self.store.watchers.setdefault(queue, []).append(tell)
            self._undo.append(lambda: self.store.watchers[queue].remove(tell))
            marked = [id for id, until in self.store.cancelled.get(queue, {}).items() if until > self.store.now()]
        for id in marked:
            on_mark(id, True)

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        loop = asyncio.get_running_loop()
        with self.store.lock:
            self._use()
            responders = list(self.store.responders.get(queue, ()))
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

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> None:
        loop = asyncio.get_running_loop()

        def on_question(question: bytes, reply: Callable[[bytes | None], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                loop.call_soon_threadsafe(lambda: reply(respond(question)))

        with self.store.lock:
            self._use()
            self.store.responders.setdefault(queue, []).append(on_question)
            self._undo.append(lambda: self.store.responders[queue].remove(on_question))
