"""HTTP clients with one connection each, used again and again. The settings say how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator

import httpx2

from jetq import SettingsError
from jetq_email.settings import Settings

__all__ = ["Clients"]

_IDLE = 15.0
"""Seconds after which an unused connection is closed."""

_LIBRARY_LOG = logging.getLogger("httpx2")


class Clients:
    """Up to `settings.connections` clients with one connection each. A client with many connections would look through
    all of them for each request, which took more time than everything else."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.timeout
        self._trusted = _trusted(settings)
        self._turns = asyncio.Semaphore(settings.connections)
        self._idle: deque[tuple[httpx2.AsyncClient, float]] = deque()
        if _LIBRARY_LOG.level == logging.NOTSET:
            _LIBRARY_LOG.setLevel(logging.WARNING)  # it would log a line for each request

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Yield a client that nobody else uses meanwhile. It is the client that was used last, whose connection is the
        most likely to be open still."""
        async with self._turns:
            client = self._idle.pop()[0] if self._idle else self._new()
            try:
                yield client
            finally:
                self._idle.append((client, time.monotonic()))
                await self._close_oldest()

    async def close(self) -> None:
        """Close the connections. Never raises."""
        while self._idle:
            await self._idle.pop()[0].aclose()

    def _new(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=self._timeout,
            limits=httpx2.Limits(max_connections=1, keepalive_expiry=_IDLE),
            verify=self._trusted,
            follow_redirects=False,
            headers={"user-agent": "jetq_email", "accept-encoding": "identity"},
        )

    async def _close_oldest(self) -> None:
        if self._idle[0][1] < time.monotonic() - _IDLE:
            await self._idle.popleft()[0].aclose()


def _trusted(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise SettingsError(f"JETQ_EMAIL_CA_FILE: {error.strerror or 'no PEM file of authorities'}") from None
