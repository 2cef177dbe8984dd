"""Which loop owns which connection: one broker per event loop, and one on a thread of jetq's own for sync callers.

The only place where sync code crosses into a coroutine.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from jetq.broker import Broker
from jetq.errors import BrokerUnavailable, JetqWarning

__all__ = ["Connect", "Session", "warn_on_running_loop"]

T = TypeVar("T")

_CLOSE_WITHIN = 3.0


class Connect(Protocol):
    """Makes a broker for the running loop. `patient`: a worker, which keeps trying and logs."""

    def __call__(self, *, patient: bool = False) -> Awaitable[Broker]: ...


class Session:
    """The brokers of one app in this process. `connect` makes one for the running loop.

    A forked child starts without any and makes its own.
    """

    def __init__(self, connect: Connect | Callable[[], Awaitable[Broker]]) -> None:
        raise NotImplementedError

    async def broker(self, *, patient: bool = False) -> Broker:
        """The running loop's broker, made on first use. Raises BrokerUnavailable.

        It is closed when the loop shuts down in order, as `asyncio.run` does.
        """
        raise NotImplementedError

    def run(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `fn()` on the session's own thread and wait for its value: the one crossing from sync code."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the running loop's broker, and the own thread with its broker. The next use makes new ones."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the own thread with its broker."""
        raise NotImplementedError
