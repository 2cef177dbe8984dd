"""The tasks of this plugin, on the queue `email`: to send mails, and to take what comes back of them."""

from __future__ import annotations

from jetq_email.tasks.mails import (
    Addresses,
    Context,
    confirm_subscription,
    jetq_ready,
    note_choice,
    send_email,
    send_template,
    take_events,
    take_report,
)

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
