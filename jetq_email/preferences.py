"""The topics that somebody wants mail about, for applications to ask and set. The links in mails set them too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from jetq import Jetq, SettingsError
from jetq_email.settings import current
from jetq_email.suppression import Suppression, address_hash, check_topic

__all__ = ["Preferences"]

T = TypeVar("T")


class Preferences:
    """The choices of the recipients of an app: the given app, else the app whose job runs here, else the default app.

    Everybody wants every topic until they say otherwise. A recipient on the list of those who get no mail at all gets
    no mail of any topic; that is not a preference, and these methods do not report it. Each method raises BrokerError,
    and Unsendable for a topic that does not exist.
    """

    def __init__(self, app: Jetq | None = None) -> None:
        self._suppression = Suppression(app)

    async def awants(self, address: str, topic: str) -> bool:
        """Return whether `address` has not declined `topic`."""
        return not await self._suppression.declines(address_hash(address), _known(topic))

    async def aset(self, address: str, topic: str, wanted: bool) -> None:
        """Store that `address` wants `topic` from now on, or does not."""
        await self._suppression.decide(address_hash(address), _known(topic), wanted=wanted, source="preferences")

    async def aof(self, address: str) -> tuple[str, ...]:
        """Return those topics of JETQ_EMAIL_TOPICS that `address` has declined. Raises SettingsError if that setting
        has none."""
        topics = current().topics
        if not topics:
            raise SettingsError("which topics there are is not known here", hint="set JETQ_EMAIL_TOPICS")
        wanted = await asyncio.gather(*(self.awants(address, topic) for topic in topics))
        return tuple(topic for topic, is_wanted in zip(topics, wanted, strict=True) if not is_wanted)

    def wants(self, address: str, topic: str) -> bool:
        """Do as `awants`, for code that is not async."""
        return self._run(lambda each: each.awants(address, topic))

    def set(self, address: str, topic: str, wanted: bool) -> None:
        """Do as `aset`, for code that is not async."""
        self._run(lambda each: each.aset(address, topic, wanted))

    def of(self, address: str) -> tuple[str, ...]:
        """Do as `aof`, for code that is not async."""
        return self._run(lambda each: each.aof(address))

    def _run(self, work: Callable[[Preferences], Coroutine[Any, Any, T]]) -> T:
        return self._suppression.app.session.run(lambda: work(self))


def _known(topic: str) -> str:
    return check_topic(topic, current().topics)
