"""The tasks of this plugin, on the queue `email`: they send mails, and take feedback about mails."""

from __future__ import annotations

from jetq_email.tasks.attempts import jetq_ready
from jetq_email.tasks.feedback import confirm_subscription, take_events, take_report
from jetq_email.tasks.mails import Addresses, Context, send_email, send_template
from jetq_email.unsubscribe import note_choice

__all__ = [
    "Addresses",
    "Context",
    "confirm_subscription",
    "jetq_ready",
    "note_choice",
    "send_email",
    "send_template",
    "take_events",
    "take_report",
]
