"""What goes wrong with a connection and its requests: as errors, and as lines of the log, once per cause."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from jetq.errors import BrokerUnavailable, JetqError

__all__ = ["Complaints", "NoReply", "NoResponders", "NotAllowed", "all_failed", "denied_subject"]

_log = logging.getLogger("jetq.connection")

_REMIND = 30.0
_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"')


class NoReply(Exception):
    """No reply came in time, or the connection was lost before: the request may or may not have been carried out."""


class NoResponders(Exception):
    """Nobody listens on the subject of the request: the request was surely not carried out."""


class NotAllowed(NoReply):
    """The user may not publish on the subject of the request: the request was surely not carried out."""


class Complaints:
    """Says in the log why there is no connection: each cause at once, and the same cause again only every 30 s."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, error: JetqError, now: float) -> None:
        last = self._last.get(error.message)
        if last is None or now - last >= _REMIND:
            self._last[error.message] = now
            _log.warning("%s; trying again%s", error.message, f" (hint: {error.hint})" if error.hint else "")


def all_failed(errors: Sequence[BrokerUnavailable]) -> BrokerUnavailable:
    """Return one error for a round over the servers in which none could be used."""
    if len(errors) == 1:
        return errors[0]
    # In a stable order, so that a worker's log recognises the same trouble.
    messages = sorted({error.message.removeprefix("cannot connect to NATS at ") for error in errors})
    return BrokerUnavailable(
        f"cannot connect to any NATS server: {'; '.join(messages)}", hint=min(errors, key=str).hint
    )


def denied_subject(said: str) -> str | None:
    """Return the subject, in lower case as nats-py hands it on (2.16.0), that the server says the user may not publish
    to.

    None means that the server said something else.
    """
    match = _DENIED.search(said)
    return None if match is None else match[1]
