"""Makes one attempt of a mail: builds it, leaves out who must not get it, hands it over, and settles the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Container, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from jetq import RateLimited, Reject, Retry, Snooze
from jetq_email.errors import AtRate, OutcomeUnknown, ServerBusy, Throttled, TransportError, Unsendable
from jetq_email.mail_log import AttemptLog
from jetq_email.message import Email, Envelope, composed
from jetq_email.outcomes import Refusal, Sent
from jetq_email.routing.opening import transport_for
from jetq_email.running_job import running_job
from jetq_email.sending.attachments import Attachment, gather
from jetq_email.sending.campaigns import note_sent, who_has_it
from jetq_email.settings import Settings
from jetq_email.suppression import Suppression
from jetq_email.unsubscribe.links import with_link

__all__ = ["send"]

_BUSY_WAIT = 5.0
"""Seconds after which a mail is tried again when the server takes no connection."""

_BUSY_FOR = 3600.0
"""Seconds after its enqueue in which a busy server costs a mail no attempt."""

_THROTTLED_FOR = 86400.0
"""Seconds, like `_BUSY_FOR`, for a server or provider that says when to come again or wants fewer mails. Some providers
have a limit for each day."""

_writing: set[asyncio.Future[None]] = set()
"""Writes about mails whose jobs have ended. They are kept here because the event loop keeps no reference to its
tasks."""

_NO_ADDRESS = "5.1.3 (not an address)"
"""The reply that a server would give to a text that is no address (RFC 5248)."""


async def send(
    email: Email,
    attachments: Sequence[Attachment],
    settings: Settings,
    *,
    recipients: Sequence[str] | None,
    via: str | None,
    campaign: str | None,
) -> None:
    """Send `email`, and return when everybody who may get it has it. recipients, via, campaign: see the task
    `send_email`.

    Raises Reject for a mail that can never be sent, Retry for the recipients that lack it, Snooze and RateLimited for a
    busy server or provider, and TransportError.
    """
    job_id, date = _identity()
    try:
        email = with_link(email, settings)
        parts = await gather(attachments, settings)
        envelope = await composed(email, parts, job_id=job_id, date=date)
        if recipients is not None:
            envelope = _narrow(envelope, recipients)
        sent = await _hand_over(replace(envelope, via=via), campaign, settings)
    except Unsendable as error:
        raise Reject(str(error)) from error
    except ServerBusy as error:
        if _is_older(date, _BUSY_FOR if error.after is None else _THROTTLED_FOR):
            raise
        raise Snooze(_spread(_BUSY_WAIT / 2 if error.after is None else error.after)) from error
    except Throttled as error:
        if _is_older(date, _THROTTLED_FOR) and not isinstance(error, AtRate):  # a long backlog may last for days
            raise
        raise RateLimited(_BUSY_WAIT if error.after is None else error.after) from error
    except OutcomeUnknown as error:
        if error.via is None:
            raise
        raise Retry(arguments={"via": error.via}) from error
    _settle(sent)


async def _hand_over(envelope: Envelope, campaign: str | None, settings: Settings) -> Sent:
    """Send to those who may get the mail, and log the outcome for each. In a plain call of the task nothing is looked
    up or logged, because there may be no broker."""
    if not (settings.suppression or settings.log_ttl or campaign) or (job := running_job()) is None:
        return await _sent(envelope, settings)
    log = AttemptLog(job.id, job.attempt, settings)
    if settings.suppression and (suppressed := await Suppression().of(envelope.recipients, envelope.fields.topic)):
        await log.suppressed(envelope, suppressed)
        envelope = _leave_out(envelope, suppressed)
    if campaign is not None:
        envelope = _leave_out(envelope, await who_has_it(campaign, envelope.recipients))
    if not envelope.recipients:
        return _with_unusable(Sent(()), envelope)
    try:
        sent = await _sent(envelope, settings)
    except (TransportError, Unsendable) as error:
        if not isinstance(error, ServerBusy | Throttled):
            await log.failed(envelope, error)
        raise
    await _note(log, envelope, sent, campaign)
    return sent


async def _note(log: AttemptLog, envelope: Envelope, sent: Sent, campaign: str | None) -> None:
    """Store the outcome of a mail. A cancellation does not stop this, because the mail is handed over by now: a job
    that is cancelled here when its worker ends would be given back whole, and the mail would be sent to all recipients
    again."""

    async def write() -> None:
        await log.sent(envelope, sent)
        if campaign is not None:
            await note_sent(campaign, sent.delivered)

    writing = asyncio.ensure_future(write())
    _writing.add(writing)
    writing.add_done_callback(_writing.discard)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(writing)


def _leave_out(envelope: Envelope, addresses: Container[str]) -> Envelope:
    return replace(envelope, recipients=tuple(each for each in envelope.recipients if each not in addresses))


async def _sent(envelope: Envelope, settings: Settings) -> Sent:
    transport = await transport_for(settings)
    return _with_unusable(await transport.send(envelope), envelope)


def _spread(least: float) -> float:
    """Return `least` seconds plus a random part, so that waiting mails do not all come at once."""
    return least + random.uniform(0.0, max(least / 4, _BUSY_WAIT / 2))


def _is_older(date: datetime, seconds: float) -> bool:
    return datetime.now(UTC) - date > timedelta(seconds=seconds)


def _narrow(envelope: Envelope, recipients: Sequence[str]) -> Envelope:
    """Return `envelope` for only those of its recipients that are in `recipients`.

    Raises Unsendable if none is left, because a mail to nobody is an error.
    """
    left = tuple(each for each in envelope.recipients if each in recipients)
    unusable = tuple(each for each in envelope.unusable if each[0] in recipients)
    if unusable and not left:
        raise unusable[0][1]
    if not left:
        raise Unsendable("recipients: none of them is in to, cc or bcc", hint="the task itself sets recipients")
    return replace(envelope, recipients=left, unusable=unusable)


def _with_unusable(sent: Sent, envelope: Envelope) -> Sent:
    """Return `sent`, with each text in bcc that is no address as refused."""
    refused = (Refusal(text, 553, _NO_ADDRESS) for text, _ in envelope.unusable)
    return replace(sent, refused=(*sent.refused, *refused))


def _settle(sent: Sent) -> None:
    """Return if everybody has the mail. Else raise Retry for the recipients that lack it, or Reject if all were refused
    for good."""
    if not sent.refused:
        return
    left: dict[str, Any] = {"recipients": [refusal.recipient for refusal in sent.refused]}
    if sent.via is not None and any(refusal.unknown for refusal in sent.refused):
        left["via"] = sent.via
    reason = sent.reason
    if any(not refusal.permanent for refusal in sent.refused):
        raise Retry(arguments=left, reason=reason)
    if sent.delivered:  # so that the dead letter names only those without the mail
        raise Retry(0.0, arguments=left, reason=reason)
    raise Reject(reason)


def _identity() -> tuple[str, datetime]:
    """Return the job's id and the time of its enqueue, which are the same in every attempt. A plain call of the task
    gets new ones."""
    job = running_job()
    if job is None:
        return uuid4().hex, datetime.now(UTC).replace(microsecond=0)
    return job.id, job.enqueued_at.replace(microsecond=0)
