"""The tasks of this plugin, on the queue `email`: to send mails, and to take what comes back of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import uuid4

from msgspec.structs import replace
from tenacity import RetryCallState
from tenacity.wait import wait_base

from jetq import JetqError, JobContext, RateLimited, Reject, Retry, Secret, SettingsError, Snooze, current_job, task
from jetq_email.address import parse_return_path
from jetq_email.attachments import Attachment, gather
from jetq_email.campaigns import note_sent, who_has_it
from jetq_email.dkim_keys import signer_for
from jetq_email.errors import OutcomeUnknown, ServerBusy, Throttled, TransportError, Unsendable
from jetq_email.events import Event, take
from jetq_email.links import link_variables, with_link
from jetq_email.mail_log import AttemptLog
from jetq_email.message import Email, Envelope, composed
from jetq_email.reports import BadReport, read_report
from jetq_email.settings import Settings, current
from jetq_email.sns import confirm
from jetq_email.suppression import Suppression
from jetq_email.templates import render
from jetq_email.transports.opening import check_transport, transport_for
from jetq_email.transports.outcomes import Refusal, Sent
from jetq_email.unsubscribe import note_choice

__all__ = [
    "confirm_subscription",
    "jetq_ready",
    "note_choice",
    "send_email",
    "send_template",
    "take_events",
    "take_report",
]

_log = logging.getLogger("jetq.email")

_WAITS = (1, 5, 15, 30, 60, 120, 240)
"""What attempts wait, in times of the first wait: a minute, then past the five that a server puts strangers off for."""

_BUSY_WAIT = 5.0
"""Seconds after which a mail asks again a server that takes no connection."""

_BUSY_FOR = 3600.0
"""Seconds after its enqueue in which that costs a mail no attempt."""

_THROTTLED_FOR = 86400.0
"""The same of whoever says when to come again, as a provider that wants fewer mails: of some the limit is one of a
day."""

_NO_ADDRESS = "5.1.3 (not an address)"
"""What a server would say of one; RFC 5248."""

_TAKEN_FOR = 20
"""Attempts to take what comes back, with the usual waits: more than half an hour."""

Addresses = str | list[str]
Context = dict[str, Any]


class _Options(TypedDict, total=False):
    max_attempts: int
    rate: str


def jetq_ready() -> None:
    """Raise SettingsError if no mail can be sent from here: a worker without a transport, or without the key that is
    to sign, leaves the queue to others."""
    settings = current()
    check_transport(settings)
    signer_for(settings)


class _RetryWait(wait_base):
    """`JETQ_EMAIL_RETRY_WAIT` seconds before the second attempt, then ever longer. Up to a quarter is added by chance:
    a server that was away is not to meet all mails at once."""

    def __call__(self, retry_state: RetryCallState) -> float:
        least = current().retry_wait * _WAITS[min(retry_state.attempt_number, len(_WAITS)) - 1]
        return random.uniform(least, least * 1.25)


def _options() -> _Options:
    """Those of the settings of this process. `jetq_ready` tells of settings that cannot be read."""
    try:
        settings = current()
    except SettingsError:
        settings = Settings()
    options: _Options = {"max_attempts": settings.attempts}
    if settings.rate is not None:
        options["rate"] = settings.rate
    return options


@task(name="jetq_email.send_email", queue="email", **_options(), wait=_RetryWait(), ends_kept=3600)
async def send_email(
    to: Addresses,
    subject: str,
    text: str | None = None,
    html: str | None = None,
    sender: str | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    headers: dict[str, str] | None = None,
    attachments: list[Attachment] | None = None,
    recipients: list[str] | None = None,
    calendar: str | None = None,
    tag: str | None = None,
    topic: str | None = None,
    envelope_sender: str | None = None,
    campaign: str | None = None,
    via: str | None = None,
) -> None:
    """Send one mail.

    to, cc, bcc, reply_to: an address or several, `ann@example.com` or `Ann <ann@example.com>`. sender: the From
    address, `JETQ_EMAIL_SENDER` if not given. text, html: either or both; text is made of html if it is missing.
    headers: further ones, such as `Auto-Submitted`. calendar: an invitation in iCalendar's format, shown as one.
    tag: what kind of mail it is, which a provider counts by. topic: what it is about, if a recipient can decline that:
    with a topic it goes to one recipient, and has a link to unsubscribe, where the settings name a URL for that.
    campaign: whoever was sent a mail of that name gets no other; see `send_many`.
    envelope_sender: where bounces go by SMTP, if not to the sender; `JETQ_EMAIL_ENVELOPE_SENDER` if not given. `<>` is
    nowhere; `{id}` and `{recipient}` in it tell whose mail it was.
    recipients, via: set by the task itself, who of to, cc and bcc still lacks the mail, and the one route that may have
    it already.

    A mail that can never be sent is dead at once, with the reason; so is one with a text in to or cc that is no
    address, for all recipients would read it. Who is refused for the moment (4xx) is tried again alone; who is refused
    for good (5xx), or is no address in bcc, is left in the dead letter, so a replay sends to nobody who has the mail.
    Who is on the list of those who get no mail, or none of the topic, is left out.
    """
    settings = current()
    email = Email(
        to=_several(to),
        subject=subject,
        text=text,
        html=html,
        calendar=calendar,
        tag=tag,
        topic=topic,
        envelope_sender=envelope_sender or settings.envelope_sender,
        sender=_sender(sender, settings),
        cc=_several(cc),
        bcc=_several(bcc),
        reply_to=_several(reply_to),
        headers=headers or {},
    )
    await _send(email, attachments or [], recipients, via, campaign, settings)


@task(name="jetq_email.send_template", queue="email", **_options(), wait=_RetryWait(), ends_kept=3600)
async def send_template(
    template: str,
    to: Addresses,
    context: Context | None = None,
    sender: str | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    reply_to: Addresses | None = None,
    headers: dict[str, str] | None = None,
    attachments: list[Attachment] | None = None,
    recipients: list[str] | None = None,
    calendar: str | None = None,
    tag: str | None = None,
    topic: str | None = None,
    envelope_sender: str | None = None,
    campaign: str | None = None,
    via: str | None = None,
) -> None:
    """Send one mail made of the template `template`, filled in from `context`.

    Templates are looked for in `JETQ_EMAIL_TEMPLATE_DIRECTORY` and then among the built-in ones: welcome, verification,
    password_reset, password_changed, notification. They know `unsubscribe_url` if the mail has such a link. The rest is
    as with `send_email`.
    """
    settings = current()
    try:
        known = link_variables([*_several(to), *_several(cc), *_several(bcc)], topic, headers or {}, settings)
        rendered = render(template, {**known, **(context or {})}, settings.template_directory)
    except Unsendable as error:
        raise Reject(str(error)) from error
    email = Email(
        to=_several(to),
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        calendar=calendar,
        tag=tag,
        topic=topic,
        envelope_sender=envelope_sender or settings.envelope_sender,
        sender=_sender(sender, settings),
        cc=_several(cc),
        bcc=_several(bcc),
        reply_to=_several(reply_to),
        headers=headers or {},
    )
    await _send(email, attachments or [], recipients, via, campaign, settings)


@task(name="jetq_email.take_events", queue="email", max_attempts=_TAKEN_FOR)
async def take_events(events: list[Event]) -> None:
    """Put who bounced, complained or unsubscribed on the list of those who get no mail. The rest is left alone."""
    await take(events)


@task(name="jetq_email.take_report", queue="email", max_attempts=_TAKEN_FOR)
async def take_report(raw: bytes) -> None:
    """Do the same with what a mail reports that came to the address of bounces or complaints.

    raw: that mail, or its first 256 KiB, which are enough. One that is no report, as from who is on holiday, is left
    alone.
    """
    sender = current().envelope_sender
    try:
        events = read_report(raw, None if sender is None else parse_return_path(sender, "envelope_sender"))
    except BadReport as error:
        _log.info("a mail to the address of bounces is left alone: %s", error.message)
        return
    await take(events)


@task(name="jetq_email.confirm_subscription", queue="email", max_attempts=_TAKEN_FOR)
async def confirm_subscription(url: Secret[str]) -> None:
    """Confirm that a topic of SNS is to send its messages here, at the address that it gave."""
    try:
        await confirm(url)
    except Unsendable as error:
        raise Reject(str(error)) from error


async def _send(
    email: Email,
    attachments: list[Attachment],
    recipients: list[str] | None,
    via: str | None,
    campaign: str | None,
    settings: Settings,
) -> None:
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
        if _is_older(date, _THROTTLED_FOR):
            raise
        raise RateLimited(_BUSY_WAIT if error.after is None else error.after) from error
    except OutcomeUnknown as error:
        if error.via is None:
            raise
        raise Retry(arguments={"via": error.via}) from error
    _settle(sent)


async def _hand_over(envelope: Envelope, campaign: str | None, settings: Settings) -> Sent:
    """Send to those who may get it, and keep in the log what came of each. A plain call asks nobody who may, and logs
    nothing: it may have no broker."""
    if not (settings.suppression or settings.log_ttl or campaign) or (job := _current()) is None:
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
    await log.sent(envelope, sent)
    if campaign is not None:
        await note_sent(campaign, sent.delivered)
    return sent


def _leave_out(envelope: Envelope, addresses: Container[str]) -> Envelope:
    return replace(envelope, recipients=tuple(each for each in envelope.recipients if each not in addresses))


async def _sent(envelope: Envelope, settings: Settings) -> Sent:
    transport = await transport_for(settings)
    return _with_unusable(await transport.send(envelope), envelope)


def _spread(least: float) -> float:
    """`least` seconds and some more by chance, so that not all who wait come at once."""
    return least + random.uniform(0.0, max(least / 4, _BUSY_WAIT / 2))


def _is_older(date: datetime, seconds: float) -> bool:
    return datetime.now(UTC) - date > timedelta(seconds=seconds)


def _narrow(envelope: Envelope, recipients: list[str]) -> Envelope:
    """`envelope` for those of its recipients alone. Raises Unsendable if none is left: a mail to nobody is an error."""
    left = tuple(each for each in envelope.recipients if each in recipients)
    unusable = tuple(each for each in envelope.unusable if each[0] in recipients)
    if unusable and not left:
        raise unusable[0][1]
    if not left:
        raise Unsendable("recipients: none of them is in to, cc or bcc", hint="the task itself sets recipients")
    return replace(envelope, recipients=left, unusable=unusable)


def _with_unusable(sent: Sent, envelope: Envelope) -> Sent:
    """`sent`, in which what is no address is refused."""
    refused = (Refusal(text, 553, _NO_ADDRESS) for text, _ in envelope.unusable)
    return replace(sent, refused=(*sent.refused, *refused))


def _settle(sent: Sent) -> None:
    """Return if everybody has the mail; else narrow the job down to who has not."""
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
    """The job's id and the time it was enqueued: the same in every attempt. A plain call gets new ones."""
    job = _current()
    if job is None:
        return uuid4().hex, datetime.now(UTC).replace(microsecond=0)
    return job.id, job.enqueued_at.replace(microsecond=0)


def _current() -> JobContext | None:
    try:
        return current_job()
    except JetqError:
        return None


def _sender(sender: str | None, settings: Settings) -> str:
    chosen = sender or settings.sender
    if chosen is None:
        raise SettingsError("the mail names no sender", hint="pass sender=, or set JETQ_EMAIL_SENDER for the worker")
    return chosen


def _several(addresses: Addresses | None) -> list[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses
