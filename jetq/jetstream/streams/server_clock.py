"""The server's time, learnt from its answers: delays, retries, ticks and pauses are instants that the server keeps."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any

from jetq.runtime.clock import steady

__all__ = ["ServerClock"]

_log = logging.getLogger("jetq.jetstream")

NOTABLE = 1.0
"""Seconds by which the clock of this machine has to be off before the log says so."""

_DRIFT = 1e-4
"""The share of the time since the last answer by which the learnt offset gets unsure. Quartz is off by a tenth of
that."""

_reported = 0.0
"""Seconds by which the clock of this machine was off when the log last said so: once for all connections of the
process."""


class ServerClock:
    """The server's time, in unix seconds. The clock of this machine counts as long as no answer contradicts it.

    Between answers a steady clock is read, so that nothing happens when the clock of this machine is set. Any thread
    may read this clock, and one thread writes it.

    Guarantee: tests/integration/connection/test_clock.py: a clock that is off, or is set meanwhile, moves nothing by
    more than an answer takes.
    """

    def __init__(self) -> None:
        self.known = False
        self._offset = 0.0
        self._earliest = self._latest = 0.0
        self._learnt_at = 0.0

    def now(self) -> float:
        """Return the server's time, or the time of this machine until an answer came."""
        return steady() + self._offset if self.known else time.time()

    def learn(self, asked: float, answer: dict[str, Any]) -> None:
        """Learn from an answer of the API to a question sent at `asked`, by `steady`.

        An answer without a time is ignored.
        """
        told = answer.get("ts")
        if not isinstance(told, str):
            return
        try:
            said = datetime.fromisoformat(told).timestamp()
        except (ValueError, OverflowError):
            return
        answered = steady()
        # The server wrote its time after the question was sent and before the answer was read.
        earliest, latest = said - answered, said - asked
        unsure = (answered - self._learnt_at) * _DRIFT
        if self.known and earliest <= self._latest + unsure and latest >= self._earliest - unsure:
            earliest, latest = max(earliest, self._earliest - unsure), min(latest, self._latest + unsure)
        self._earliest, self._latest, self._learnt_at = earliest, latest, answered
        own = time.time() - answered
        self._offset = min(max(own, earliest), latest)
        self.known = True
        _speak_of(own - self._offset)


def _speak_of(ahead: float) -> None:
    global _reported
    if abs(ahead - _reported) <= NOTABLE:
        return
    _reported = ahead
    if abs(ahead) > NOTABLE:
        _log.warning(
            "this machine's clock is %.1f s %s the NATS server's; jetq goes by the server's. Is a time service running "
            "on both?",
            abs(ahead), "ahead of" if ahead > 0 else "behind",
        )  # fmt: skip
    else:
        _log.info("this machine's clock agrees with the NATS server's again")
