"""How often a mail is tried and when, as the settings of this process say it; and whether it can be sent from here."""

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
"""Waits in times of the first: a minute, then past the five minutes that a server puts strangers off for."""


class TaskOptions(TypedDict, total=False):
    """What settings say of a task. rate: jobs started by all workers, as `14/s`."""

    max_attempts: int
    rate: str


def jetq_ready() -> None:
    """Raise SettingsError if no mail can be sent from here.

    A worker without a transport, or without the key that is to sign, leaves the queue to other workers.
    """
    settings = current()
    check_transport(settings)
    signer_for(settings)


class RetryWait(wait_base):
    """The wait before the next attempt: `JETQ_EMAIL_RETRY_WAIT` seconds before the second, then ever longer."""

    def __call__(self, retry_state: RetryCallState) -> float:
        least = current().retry_wait * _WAITS[min(retry_state.attempt_number, len(_WAITS)) - 1]
        return random.uniform(least, least * 1.25)  # so that a server that was away does not meet all mails at once


def task_options() -> TaskOptions:
    """Return the options of both tasks that send, as the settings of this process give them.

    Settings that cannot be read count as not given here: `jetq_ready` tells of them.
    """
    try:
        settings = current()
    except SettingsError:
        settings = Settings()
    options: TaskOptions = {"max_attempts": settings.attempts}
    if settings.rate is not None:
        options["rate"] = settings.rate
    return options
