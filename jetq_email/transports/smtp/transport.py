"""Hands mails to an SMTP server, in one transaction or in as many as the server demands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from msgspec import Struct

from jetq_email.errors import OutcomeUnknown, TransportError, Unsendable
from jetq_email.message import Envelope
from jetq_email.outcomes import Refusal, Sent
from jetq_email.settings import Settings
from jetq_email.transports.smtp.connections import Connections
from jetq_email.transports.smtp.replies import codes_of, enhanced

__all__ = ["SmtpTransport"]

_CLOSING = 421
"""The code with which a server closes the connection, also after as many mails as it takes in one session."""

_OUT_OF_STEP = 503
"""The code of a server that has lost count of the commands, which is no fault of the mail."""

_TAKES_UNSEEN = 252
"""The code for a recipient that a server takes without knowing whether it exists."""

_ASCII_ALONE = enhanced("5.6.7")

_UNKNOWN, _NEVER = 451, 554
"""Codes of refusals that no server has sent: it is unknown whether the recipient has the mail, and the recipient cannot
get it."""


class _SessionOver(Exception):
    """The server has closed a session in which it took mails, before it had the content of this mail."""


class _Transaction(Struct):
    """The outcome of one transaction for its recipients. left: the recipients that the server wants in the next
    transaction."""

    delivered: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    left: tuple[str, ...] = ()


class _Load(Struct):
    """What a server can take of an envelope: the message, its recipients, and the recipients that are refused because
    the server lacks an extension."""

    message: bytes
    recipients: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()
    utf8: bool = False


class SmtpTransport:
    """Hands mails to the server of the settings, over a few connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._where = f"{settings.host}:{settings.smtp_port}"
        self._connections = Connections(settings)

    async def send(self, envelope: Envelope) -> Sent:
        """See `Transport.send`. If a connection is lost after the content was sent, the outcome is unknown. Then a
        TransportError is raised, or, if other recipients have the mail already, the recipients left are refused for
        now. The retry has the same Message-ID. A cancellation between two of several transactions, or in one, also
        leaves recipients refused for now."""
        delivered: list[str] = []
        refused: list[Refusal] = []
        left = envelope.recipients
        while left:
            now, later = (left[:1], left[1:]) if envelope.return_path.names_recipient else (left, ())
            try:
                done = await self._transact(envelope, now)
            except Unsendable as error:
                if now == envelope.recipients:
                    raise
                done = _Transaction(refused=tuple(Refusal(each, _NEVER, error.message) for each in now))
            except (TransportError, asyncio.CancelledError) as error:
                if not delivered:
                    raise
                why = error.message if isinstance(error, TransportError) else "the worker ends"
                unknown = isinstance(error, OutcomeUnknown | asyncio.CancelledError)
                lacking = tuple(Refusal(each, _UNKNOWN, why, unknown=unknown) for each in left)
                return Sent(tuple(delivered), (*refused, *lacking))
            delivered += done.delivered
            refused += done.refused
            left = (*done.left, *later)
        return Sent(tuple(delivered), tuple(refused))

    async def close(self) -> None:
        """Close every idle connection with QUIT. Never raises."""
        await self._connections.close()

    async def _transact(self, envelope: Envelope, recipients: Sequence[str]) -> _Transaction:
        """Hand over in one transaction. If the server closes a connection that was used before, use another one."""
        while True:
            client, used = await self._connections.borrow()
            try:
                done = await self._hand_over(client, envelope, recipients, used)
            except _SessionOver:
                self._connections.drop(client)
                continue
            except BaseException:
                self._connections.drop(client)
                raise
            self._connections.give_back(client)
            return done

    async def _hand_over(self, client: SMTP, envelope: Envelope, recipients: Sequence[str], used: bool) -> _Transaction:
        load = self._load(client, envelope, recipients)
        started = False
        try:
            taken, refused, left = await self._name_recipients(client, envelope, load)
            if not taken:
                await _reset(client)
                return _Transaction((), (*load.refused, *refused), left)
            started = True
            await client.data(load.message, timeout=4 * self._settings.timeout)
        except SMTPResponseException as error:
            if error.code == _CLOSING:
                raise self._closed(error, used) from None
            if not _is_refusal(error):
                raise self._lost(f"the server answered {codes_of(error)}", started) from None
            await _reset(client)
            return _Transaction((), (*load.refused, *(_refusal(each, error) for each in load.recipients)))
        except (SMTPException, OSError) as error:
            if used and not started and isinstance(error, ConnectionError):
                raise _SessionOver from None
            raise self._lost(str(error) or type(error).__name__, started) from error
        return _Transaction(taken, (*load.refused, *refused), left)

    def _load(self, client: SMTP, envelope: Envelope, recipients: Sequence[str]) -> _Load:
        """Return what this server can take of the mail. Raises Unsendable if it can take nothing."""
        load = _Load(envelope.message, tuple(recipients), utf8=envelope.smtputf8)
        if envelope.smtputf8 and not client.supports_extension("smtputf8"):
            load = self._load_without_utf8(envelope, recipients)
        most = client.esmtp_extensions.get("size", "").strip()
        if most.isdecimal() and 0 < int(most) < len(load.message):
            raise Unsendable(
                f"the mail has {len(load.message)} bytes, and {self._where} takes {most}",
                hint="send a link to what is attached",
            )
        return load

    def _load_without_utf8(self, envelope: Envelope, recipients: Sequence[str]) -> _Load:
        able = tuple(each for each in recipients if each.isascii())
        if envelope.without_utf8 is None or not able:
            raise Unsendable(
                f"{self._where} does not take international addresses (SMTPUTF8)",
                hint="use an ASCII address, or a server with that extension",
            )
        refused = tuple(Refusal(each, 553, _ASCII_ALONE) for each in recipients if not each.isascii())
        return _Load(envelope.without_utf8, able, refused)

    async def _name_recipients(
        self, client: SMTP, envelope: Envelope, load: _Load
    ) -> tuple[tuple[str, ...], tuple[Refusal, ...], tuple[str, ...]]:
        """Return the recipients that are taken in this transaction, those that are refused, and those for the next
        transaction."""
        options = ["SMTPUTF8"] if load.utf8 else []
        if client.supports_extension("size"):
            options.append(f"SIZE={len(load.message)}")
        encoding = "utf-8" if load.utf8 else "ascii"
        await client.mail(envelope.return_path.to(load.recipients[0]), options=options, encoding=encoding)
        taken: list[str] = []
        refused: list[Refusal] = []
        for place, recipient in enumerate(load.recipients):
            try:
                await client.rcpt(recipient, encoding=encoding)
            except SMTPResponseException as error:
                if error.code == _TAKES_UNSEEN:
                    taken.append(recipient)
                    continue
                if error.code == _CLOSING or not _is_refusal(error):
                    raise
                if taken and _has_enough(error):
                    return tuple(taken), tuple(refused), load.recipients[place:]
                refused.append(_refusal(recipient, error))
            else:
                taken.append(recipient)
        return tuple(taken), tuple(refused), ()

    def _closed(self, error: SMTPResponseException, used: bool) -> Exception:
        """Return the error for a closed session. If the session has had mails, nothing is wrong, and the next session
        takes this mail."""
        if used:
            return _SessionOver()
        return TransportError(f"the SMTP server {self._where} is closing down: {codes_of(error)}")

    def _lost(self, why: str, started: bool) -> TransportError:
        what = "lost, and whether it has the mail is unknown" if started else "lost before it had the mail"
        kind = OutcomeUnknown if started else TransportError
        return kind(
            f"the connection to {self._where} was {what}: {why}",
            hint="the mail is sent again under the same Message-ID",
        )


def _refusal(recipient: str, error: SMTPResponseException) -> Refusal:
    return Refusal(recipient, error.code, error.message, told=enhanced(error.message))


async def _reset(client: SMTP) -> None:
    """Make `client` ready for the next mail, or close it."""
    try:
        await client.rset()
    except (SMTPException, OSError):
        client.close()


def _is_refusal(error: SMTPResponseException) -> bool:
    """Return whether the server refuses something. Otherwise it answers something that was not asked, or does not speak
    SMTP."""
    return 400 <= error.code < 600 and error.code != _OUT_OF_STEP


def _has_enough(error: SMTPResponseException) -> bool:
    """Return whether a refused recipient means that the transaction has as many recipients as the server takes: code
    452 (RFC 5321 4.5.3.1.10), in the past 552. With an enhanced code the reply may be about the recipient's mailbox
    (x.2.x) or the server's disk (x.3.x) instead."""
    if error.code not in (452, 552):
        return False
    return error.message[1:4] not in (".2.", ".3.") and (error.code == 452 or "recipients" in error.message.lower())
