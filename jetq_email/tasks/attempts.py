"""How often and when a mail is tried, as the settings of this process say, and whether this process can send mails."""

from __future__ import annotations

import random
from typing import TypedDict

from tenacity import RetryCallState
from tenacity.wait import wait_base

from jetq import SettingsError
from jetq_email.dkim_keys import signer_for
from jetq_email.routing.opening import check_transport
from jetq_email.settings import Settings, current

__all__ = ["RetryWait", "TaskOptions", "jetq_ready", "task_options"]

_WAITS = (1, 5, 15, 30, 60, 120, 240)
"""Waits as multiples of the first one, which is one minute. They soon pass the five minutes for which servers put off
unknown senders."""


class TaskOptions(TypedDict, total=False):
    """The task options that settings determine. rate: jobs that all workers start together, such as `14/s`."""

    max_attempts: int
    rate: str


def jetq_ready() -> None:
    """Raise SettingsError if this process cannot send mails.

    A worker without a transport, or without the key that must sign, leaves the queue to other workers.
    """
    settings = current()
    check_transport(settings)
    signer_for(settings)


class RetryWait(wait_base):
    """The wait before the next attempt: `JETQ_EMAIL_RETRY_WAIT` seconds before the second attempt, then longer and
    longer."""

    def __call__(self, retry_state: RetryCallState) -> float:
        least = current().retry_wait * _WAITS[min(retry_state.attempt_number, len(_WAITS)) - 1]
        return random.uniform(least, least * 1.25)  # a server that was down should not get all at once


def task_options() -> TaskOptions:
    """Return the options of the two tasks that send, from the settings of this process.

    Settings that cannot be read count as not given here; `jetq_ready` reports them.
    """
    try:
        settings = current()
    except SettingsError:
        settings = Settings()
    options: TaskOptions = {"max_attempts": settings.attempts}
    if settings.rate is not None:
        options["rate"] = settings.rate
    return options
