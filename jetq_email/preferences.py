"""Which topics somebody wants mail of: asked and set by an application, and by the links in mails."""

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
    """What recipients have said, of the app whose job runs here, or else of the default app or the one given.

    Everybody wants every topic until they say otherwise. Who is on the list of those who get no mail at all gets none
    of a topic either: that is no preference, and not told here. Each verb raises BrokerError, and Unsendable for a
    topic that there is not.
    """

    def __init__(self, app: Jetq | None = None) -> None:
        self._suppression = Suppression(app)

    async def awants(self, address: str, topic: str) -> bool:
        """Return whether `address` has not declined `topic`."""
        return not await self._suppression.declines(address_hash(address), _known(topic))

    async def aset(self, address: str, topic: str, wanted: bool) -> None:
        """Note that `address` wants `topic` from now on, or does not."""
        await self._suppression.decide(address_hash(address), _known(topic), wanted=wanted, source="preferences")

    async def aof(self, address: str) -> tuple[str, ...]:
        """Return the topics that `address` has declined, of those in JETQ_EMAIL_TOPICS. Raises SettingsError without
        any."""
        topics = current().topics
        if not topics:
            raise SettingsError("which topics there are is not known here", hint="set JETQ_EMAIL_TOPICS")
        wanted = await asyncio.gather(*(self.awants(address, topic) for topic in topics))
        return tuple(topic for topic, is_wanted in zip(topics, wanted, strict=True) if not is_wanted)

    def wants(self, address: str, topic: str) -> bool:
        """Do as `awants`, from code that is not async."""
        return self._run(lambda each: each.awants(address, topic))

    def set(self, address: str, topic: str, wanted: bool) -> None:
        """Do as `aset`, from code that is not async."""
        self._run(lambda each: each.aset(address, topic, wanted))

    def of(self, address: str) -> tuple[str, ...]:
        """Do as `aof`, from code that is not async."""
        return self._run(lambda each: each.aof(address))

    def _run(self, work: Callable[[Preferences], Coroutine[Any, Any, T]]) -> T:
        return self._suppression.app.session.run(lambda: work(self))


def _known(topic: str) -> str:
    return check_topic(topic, current().topics)
