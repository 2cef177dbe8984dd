"""Connections to an SMTP server that are used again: as many as the settings allow, or as the server takes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectResponseError,
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from jetq_email.errors import ServerBusy, TransportError
from jetq_email.redaction import without_addresses
from jetq_email.settings import Settings
from jetq_email.transports.smtp.ehlo import own_name
from jetq_email.transports.smtp.login import Login
from jetq_email.transports.smtp.replies import codes_of

__all__ = ["Connections"]

_IDLE = 15.0
"""Seconds after which an unused connection is closed. Servers close unused connections after minutes, and a worker may
have no mails for longer."""

_MORE_AFTER = 30.0
"""Seconds after which one connection more is tried than the server has taken."""


class Connections:
    """Up to `settings.connections` connections to one server. If the server takes fewer, a mail that would need one
    more waits for one of these.

    With `tls="starttls"` a server that does not offer STARTTLS is refused, so nothing is sent in clear text.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: deque[tuple[SMTP, float]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._standing = 0
        self._most = settings.connections
        self._changed = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._login = Login(settings)
        self._name = settings.ehlo

    async def borrow(self) -> tuple[SMTP, bool]:
        """Return a connection that takes a mail, and whether it has been used before. Call `give_back` or `drop`
        afterwards.

        Raises ServerBusy if the server takes no connection now and none is open, and TransportError if it cannot be
        reached.
        """
        while True:
            if self._idle:
                client, _ = self._idle.pop()
                if await self._stands(client):
                    return client, True
            elif self._standing < self._most:
                new = await self._one_more()
                if new is not None:
                    return new, False
            else:
                await self._wait()

    def give_back(self, client: SMTP) -> None:
        """Keep `client`, which is ready for the next mail."""
        now = time.monotonic()
        if self._most < self._settings.connections and now - self._changed >= _MORE_AFTER:
            self._most, self._changed = self._most + 1, now
        self._idle.append((client, now))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_IDLE, self._sweep)
        self._wake()

    def drop(self, client: SMTP) -> None:
        """Close `client`, whose state is unknown."""
        client.close()
        self._standing -= 1
        self._wake()

    async def close(self) -> None:
        """Close every idle connection with QUIT. Never raises."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        clients = [client for client, _ in self._idle]
        self._standing -= len(clients)
        self._idle.clear()
        await asyncio.gather(*(_quit(client) for client in clients), *self._closing)

    async def _stands(self, client: SMTP) -> bool:
        """Return whether `client`, which was used before, still takes a command. If not, it is dropped.

        A server may close a connection at any time. The check costs one round trip; a mail on a dead connection would
        cost an attempt.
        """
        try:
            if client.is_connected:
                await client.noop()
                return True
        except (SMTPException, OSError):
            pass
        except BaseException:
            self.drop(client)
            raise
        self.drop(client)
        return False

    async def _one_more(self) -> SMTP | None:
        """Return a new connection; None if the server takes no more than are already open."""
        self._standing += 1
        try:
            return await self._connect()
        except BaseException as error:
            self._standing -= 1
            self._wake()
            if not isinstance(error, ServerBusy) or self._standing == 0:
                raise
            self._most, self._changed = self._standing, time.monotonic()
            return None

    async def _wait(self) -> None:
        """Wait until a connection is given back or closed."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._wake()  # give the turn to the next waiter
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _sweep(self) -> None:
        self._sweeper = None
        loop, now = asyncio.get_running_loop(), time.monotonic()
        while self._idle and now - self._idle[0][1] >= _IDLE:
            client, _ = self._idle.popleft()
            self._standing -= 1
            task = loop.create_task(_quit(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle:
            self._sweeper = loop.call_later(_IDLE, self._sweep)

    async def _connect(self) -> SMTP:
        try:
            return await self._connect_once()
        except _TokenRefused:
            return await self._connect_once()

    async def _connect_once(self) -> SMTP:
        settings = self._settings
        assert settings.host is not None  # Settings refuses smtp without one
        if self._name is None:
            self._name = await asyncio.to_thread(own_name, settings.host, settings.smtp_port)
        client = SMTP(
            hostname=settings.host,
            port=settings.smtp_port,
            timeout=settings.timeout,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=_tls_context(settings),
            local_hostname=self._name,
        )
        where = f"{settings.host}:{settings.smtp_port}"
        printed = self._login.printed_token
        try:
            await client.connect()
            await _introduce(client)
            await self._login.log_in(client)
        except BaseException as error:
            client.close()
            if isinstance(error, SMTPAuthenticationError) and error.code >= 500:
                self._login.forget(printed)
                if printed is not None:
                    raise _TokenRefused from None
            if isinstance(error, SMTPException | OSError | ValueError):
                raise _not_connected(error, where, settings) from None  # the error's own text may repeat the login
            raise
        return client


class _TokenRefused(Exception):
    """The server refuses a token that it took before. The command may print another token now."""


def _not_connected(error: Exception, where: str, settings: Settings) -> TransportError:
    told = _told(error)
    hung_up = SMTPServerDisconnected | ConnectionResetError
    if isinstance(error, SMTPResponseException) and 400 <= error.code < 500:
        return ServerBusy(f"the SMTP server {where} takes no connection just now: {told}")
    if isinstance(error, hung_up) or isinstance(error.__cause__, hung_up):
        return ServerBusy(f"the SMTP server {where} hung up at once: {told}")
    if isinstance(error, SMTPAuthenticationError):
        token = "JETQ_EMAIL_TOKEN" if settings.token is not None else "JETQ_EMAIL_TOKEN_COMMAND"
        secret = token if settings.has_token else "JETQ_EMAIL_PASSWORD"
        return TransportError(
            f"the SMTP server {where} refused the login: {told}",
            hint=f"check JETQ_EMAIL_USER and {secret}; the mail is tried again",
        )
    hint = f"is JETQ_EMAIL_TLS={settings.tls} what it speaks on that port?"
    if isinstance(error, SMTPHeloError):
        hint = "JETQ_EMAIL_EHLO sets what the worker calls itself: its full name, or its address as [192.0.2.1]"
    return TransportError(f"no connection to the SMTP server {where}: {told}", hint=hint)


def _told(error: Exception) -> str:
    """Return why there is no connection. The server's own words are used only before the login, because later ones may
    repeat it."""
    if isinstance(error, SMTPConnectResponseError | SMTPHeloError) and error.code > 0:
        return f"{error.code} {without_addresses(error.message)}"
    if isinstance(error, SMTPResponseException):
        return codes_of(error)
    return str(error) or type(error).__name__


async def _introduce(client: SMTP) -> None:
    """Say EHLO now, because STARTTLS made the first EHLO invalid. Before this no extension counts as offered."""
    try:
        await client.ehlo()
    except SMTPHeloError:
        await client.helo()


async def _quit(client: SMTP) -> None:
    with contextlib.suppress(SMTPException, OSError, TimeoutError):
        await client.quit(timeout=2.0)
    client.close()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls == "none":
        return None
    return ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
