"""The tasks that take what comes back of mails."""

from __future__ import annotations

import logging

from jetq import Reject, Secret, task
from jetq_email.errors import Unsendable
from jetq_email.feedback.events import Event, take
from jetq_email.feedback.reports import BadReport, read_report
from jetq_email.feedback.sns import confirm
from jetq_email.message.address import parse_return_path
from jetq_email.settings import current

__all__ = ["confirm_subscription", "take_events", "take_report"]

_log = logging.getLogger("jetq.email")

_TAKEN_FOR = 20
"""Attempts to take what comes back, with the usual waits: more than half an hour."""


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
