"""The tasks that take feedback about mails."""

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
"""Attempts to store feedback. With the usual waits they last more than half an hour."""


@task(name="jetq_email.take_events", queue="email", max_attempts=_TAKEN_FOR)
async def take_events(events: list[Event]) -> None:
    """Put recipients who bounced, complained or unsubscribed on the list of those who get no mail. Ignore other
    events."""
    await take(events)


@task(name="jetq_email.take_report", queue="email", max_attempts=_TAKEN_FOR)
async def take_report(raw: bytes) -> None:
    """Do as `take_events` with what a mail reports that came to the address for bounces or complaints.

    raw: that mail, or its first 256 KiB, which are enough. A mail that is no report, such as a vacation notice, is
    ignored.
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
    """Confirm to SNS that a topic is to send its messages here, by fetching `url`, which SNS has sent."""
    try:
        await confirm(url)
    except Unsendable as error:
        raise Reject(str(error)) from error
