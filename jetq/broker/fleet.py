"""The role of the port by which producers reach workers, without knowing the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["Fleet"]


class Fleet(Protocol):
    """Messages to workers from outside: which jobs are cancelled, and questions. For errors see `jetq.broker`."""

    async def mark_cancelled(self, queue: str, id: str) -> None:
        """Put on record for a minute that job `id` is cancelled, and tell the workers of its queue."""
        ...

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        """Take the mark of `mark_cancelled` back, because the job had ended otherwise and may be replayed."""
        ...

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        """Call `on_mark` with the id of every job that is marked (True) or unmarked (False).

        It is called at once for the jobs that are marked by now, and again for them after the connection was lost. An
        id may come more than once.
        """
        ...

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        """Return what the live workers of `queue` answer within `timeout` seconds, or the first `enough` answers."""
        ...

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> object:
        """Answer the questions about `queue` that `ask` sends.

        Questions are answered at the latest once the next verb called on this broker is done. `respond` must not block,
        and returns None for no answer.
        """
        ...
