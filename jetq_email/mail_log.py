"""The mail log: the recipients, times, jobs and outcomes of mails. Entries are kept as long as the settings say, if at
all."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq import BrokerError, Jetq, Records
from jetq_email.errors import OutcomeUnknown
from jetq_email.message import Envelope
from jetq_email.outcomes import Sent
from jetq_email.redaction import without_addresses
from jetq_email.settings import Settings
from jetq_email.suppression import RECORDS, Suppressed, address_hash

__all__ = ["AttemptLog", "Entry", "MailLog", "Outcome"]

_log = logging.getLogger("jetq.email")

Outcome = Literal["sent", "refused", "deferred", "suppressed", "failed", "unknown"]
"""refused: for good. deferred: refused for now. failed: nobody took the mail this time. unknown: somebody may have
taken it."""

_BELOW = "log"


class Entry(Struct, frozen=True, omit_defaults=True):
    """The outcome of one attempt for one recipient.

    at: aware UTC. job, attempt: the job that sent the mail, and its attempt. via: the server, provider or route.
    message_id: that of the mail; reference: the provider's own id. detail: what was answered, without addresses. hash:
    see `address_hash`; address: only if the settings say that addresses are kept.
    """

    at: datetime
    outcome: Outcome
    job: str
    attempt: int
    via: str
    message_id: str
    reference: str | None = None
    tag: str | None = None
    topic: str | None = None
    detail: str | None = None
    address: str | None = None
    hash: str = ""


_decode = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder().encode


class MailLog:
    """The mail log of an app: the given app, else the app whose job runs here, else the default app."""

    def __init__(self, app: Jetq | None = None) -> None:
        self._records = Records(RECORDS, app)

    async def each(self, address_or_hash: str | None = None) -> AsyncIterator[Entry]:
        """Yield all entries, oldest first, or only those of one address. Raises BrokerError."""
        below = _BELOW if address_or_hash is None else f"{_BELOW}.{_hash(address_or_hash)}"
        async for record in self._records.aeach(below):
            try:
                entry = _decode(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError):  # written by a later version of jetq_email
                continue
            yield replace(entry, hash=record.key.split(".")[1])

    async def write(self, entries: Iterable[tuple[str, Entry]], ttl: float) -> None:
        """Keep `entries`, each with its address. Never raises, because a mail without an entry was sent all the
        same."""
        writes = (self._records.aput(_key(address, entry), _encode(entry), ttl=ttl) for address, entry in entries)
        for failed in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(failed, BrokerError):
                _log.warning("a mail is not in the log: %s", failed.message)
            elif isinstance(failed, BaseException):
                raise failed


class AttemptLog(Struct, frozen=True):
    """Logs one attempt of a job, if the settings say so: an outcome for each recipient."""

    job: str
    attempt: int
    settings: Settings

    async def suppressed(self, envelope: Envelope, found: Mapping[str, Suppressed]) -> None:
        """Log the recipients that get no mail. The worker's own log also says how many they are, and why."""
        reasons = Counter(why.reason for why in found.values())
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        _log.info("%d of %d recipients get no mail: %s", len(found), len(envelope.recipients), told)
        await self._write(envelope, ((each, "suppressed", why.reason) for each, why in found.items()))

    async def sent(self, envelope: Envelope, sent: Sent) -> None:
        """Log the outcome for each recipient."""
        outcomes: list[tuple[str, Outcome, str | None]] = [(each, "sent", None) for each in sent.delivered]
        for refusal in sent.refused:
            detail = f"{refusal.code} {without_addresses(refusal.reply)}"
            outcomes.append((refusal.recipient, "refused" if refusal.permanent else "deferred", detail))
        await self._write(envelope, outcomes, sent.via, sent.reference)

    async def failed(self, envelope: Envelope, error: Exception) -> None:
        """Log that nobody got the mail this time, or that it is unknown whether somebody did."""
        outcome: Outcome = "unknown" if isinstance(error, OutcomeUnknown) else "failed"
        detail = without_addresses(str(error))
        via = error.via if isinstance(error, OutcomeUnknown) else None
        await self._write(envelope, ((each, outcome, detail) for each in envelope.recipients), via)

    async def _write(
        self,
        envelope: Envelope,
        outcomes: Iterable[tuple[str, Outcome, str | None]],
        via: str | None = None,
        reference: str | None = None,
    ) -> None:
        settings, fields, now = self.settings, envelope.fields, datetime.now(UTC)
        if not settings.log_ttl:
            return
        entries = [
            (
                address,
                Entry(
                    at=now,
                    outcome=outcome,
                    job=self.job,
                    attempt=self.attempt,
                    via=via or settings.chosen_transport,
                    message_id=fields.message_id,
                    reference=reference,
                    tag=fields.tag,
                    topic=fields.topic,
                    detail=detail,
                    address=address if settings.addresses == "clear" else None,
                ),
            )
            for address, outcome, detail in outcomes
        ]
        await MailLog().write(entries, settings.log_ttl)


def _hash(address_or_hash: str) -> str:
    return address_hash(address_or_hash) if "@" in address_or_hash else address_or_hash


def _key(address: str, entry: Entry) -> str:
    """Return the key of an entry. There is one for each attempt and address, so an attempt repeated after a crash has
    one entry."""
    job = blake2b(entry.job.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_BELOW}.{address_hash(address)}.{job}-{entry.attempt}"
