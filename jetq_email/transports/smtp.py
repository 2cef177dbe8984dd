"""Mails handed to an SMTP server, over a few connections that are used again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque

import aiosmtplib
from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from jetq_email.errors import TransportError, Unsendable
from jetq_email.message import Envelope
from jetq_email.settings import Settings
from jetq_email.transports import Refusal, Sent

__all__ = ["SmtpTransport"]

_IDLE = 15.0
"""Seconds after which an unused connection is closed: servers drop theirs after minutes, and a worker may be quiet."""


class SmtpTransport:
    """Up to `settings.connections` connections to one server.

    With `tls="starttls"` a server that does not offer STARTTLS is refused: nothing goes out in clear text.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: deque[tuple[SMTP, float]] = deque()
        self._slots = asyncio.Semaphore(settings.connections)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. A connection lost after the content was sent leaves the outcome unknown: that is a
        TransportError, and the retry carries the same Message-ID."""
        async with self._slots:
            client = await self._borrow()
            try:
                sent = await self._hand_over(client, envelope)
            except BaseException:
                client.close()  # nobody knows in which state it is
                raise
            self._give_back(client)
            return sent

    async def close(self) -> None:
        """Say goodbye on every idle connection. Never raises."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        clients = [client for client, _ in self._idle]
        self._idle.clear()
        await asyncio.gather(*(_quit(client) for client in clients), *self._closing)

    # --- connections

    async def _borrow(self) -> SMTP:
        while self._idle:
            client, _ = self._idle.pop()
            if await _stands(client):
                return client
            client.close()
        return await self._connect()

    def _give_back(self, client: SMTP) -> None:
        self._idle.append((client, time.monotonic()))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_IDLE, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = time.monotonic()
        while self._idle and now - self._idle[0][1] >= _IDLE:
            client, _ = self._idle.popleft()
            task = asyncio.get_running_loop().create_task(_quit(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(_IDLE, self._sweep)

    async def _connect(self) -> SMTP:
        settings = self._settings
        assert settings.host is not None  # Settings refuses smtp without one
        client = SMTP(
            hostname=settings.host,
            port=settings.smtp_port,
            timeout=settings.timeout,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=_tls_context(settings),
        )
        where = f"{settings.host}:{settings.smtp_port}"
        try:
            await client.connect()
            await _introduce(client)
            if settings.user is not None and settings.password is not None:
                await client.login(settings.user, settings.password.reveal())
        except aiosmtplib.SMTPAuthenticationError as error:
            client.close()
            raise TransportError(
                f"{where} refused the login of {settings.user}: {error.code}",
                hint="check JETQ_EMAIL_USER and JETQ_EMAIL_PASSWORD; the mail is tried again",
            ) from None
        except (SMTPException, OSError, ValueError) as error:
            client.close()
            raise TransportError(
                f"no connection to the SMTP server {where}: {str(error) or type(error).__name__}",
                hint=f"is JETQ_EMAIL_TLS={settings.tls} what it speaks on that port?",
            ) from error
        return client

    # --- one mail

    async def _hand_over(self, client: SMTP, envelope: Envelope) -> Sent:
        where = f"{self._settings.host}:{self._settings.smtp_port}"
        if envelope.smtputf8 and not client.supports_extension("smtputf8"):
            raise Unsendable(
                f"{where} does not take international addresses (SMTPUTF8)",
                hint="use an ASCII address, or a server with that extension",
            )
        try:
            refused = await self._envelope(client, envelope)
            taken = tuple(each for each in envelope.recipients if each not in {r.recipient for r in refused})
            if not taken:
                await client.rset()
                return Sent((), refused)
            await client.data(envelope.message, timeout=4 * self._settings.timeout)
        except SMTPResponseException as error:
            return await self._refused_whole(client, envelope, error)
        except (SMTPException, OSError) as error:
            raise TransportError(
                f"the connection to {where} was lost, and whether it has the mail is unknown: "
                f"{str(error) or type(error).__name__}",
                hint="the mail is sent again under the same Message-ID",
            ) from error
        return Sent(taken, refused)

    async def _envelope(self, client: SMTP, envelope: Envelope) -> tuple[Refusal, ...]:
        options = ["SMTPUTF8"] if envelope.smtputf8 else []
        encoding = "utf-8" if envelope.smtputf8 else "ascii"
        await client.mail(envelope.sender, options=options, encoding=encoding)
        refused: list[Refusal] = []
        for recipient in envelope.recipients:
            try:
                await client.rcpt(recipient, encoding=encoding)
            except SMTPResponseException as error:
                if error.code == 421:  # the server is closing the connection
                    raise
                refused.append(Refusal(recipient, error.code, error.message))
        return tuple(refused)

    async def _refused_whole(self, client: SMTP, envelope: Envelope, error: SMTPResponseException) -> Sent:
        """The sender, or the content, was refused: for everybody alike."""
        if error.code == 421:
            raise TransportError(f"the SMTP server is closing down: {error.code} {error.message}") from None
        with contextlib.suppress(SMTPException, OSError):
            await client.rset()
        return Sent((), tuple(Refusal(each, error.code, error.message) for each in envelope.recipients))


async def _introduce(client: SMTP) -> None:
    """Say EHLO now, after STARTTLS forgot the first one: until then no extension counts as offered."""
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        await client.helo()


async def _stands(client: SMTP) -> bool:
    """Whether a connection used before takes a command. A server may hang up at any moment: the question costs one
    round trip, a mail given to a dead connection would cost an attempt."""
    if not client.is_connected:
        return False
    try:
        await client.noop()
    except (SMTPException, OSError):
        return False
    return True


async def _quit(client: SMTP) -> None:
    with contextlib.suppress(SMTPException, OSError, TimeoutError):
        await client.quit(timeout=2.0)
    client.close()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls == "none":
        return None
    return ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
