"""The port: the only verbs jetq may use on the outside world, in roles. Whoever needs one role takes that one.

Two implementations, `jetq.jetstream` and `jetq.memory`, pass one contract suite (`tests/integration/contract/`). All
three name their files by the roles. The port is the project's own seam, not a plugin interface: it changes as jetq
needs.

No verb holds up those who store and take jobs, however many are stored. On JetStream three rules see to that, measured
in `jetq.jetstream.streams.reading` and held by tests/integration/queues/test_lookups.py: a get with a filter that many
messages match begins above the stream's first message, or above what was delivered; nothing that is stored in the jobs
is asked for by `batch`, `multi_last` or `subjects_filter`; and what reads many gets them by sequence, several under
way.

Errors, on every verb: BrokerUnavailable when there is no connection, NotStored when a write's fate is unknown after
`timeout`, Rejected when it was refused, NotSent when no connection came. What a verb gave up is not done later. A verb
never hangs.
"""

from __future__ import annotations

from typing import Protocol

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.consuming import Consuming
from jetq.broker.dead_letters import DeadLetters
from jetq.broker.enqueueing import Enqueueing
from jetq.broker.fleet import Fleet
from jetq.broker.queues import Queues
from jetq.broker.records import Records
from jetq.broker.results import Results
from jetq.broker.schedules import Schedules

__all__ = ["Broker"]


class Broker(Clock, Enqueueing, Consuming, Results, Queues, DeadLetters, Schedules, Cells, Records, Fleet, Protocol):
    """One connection's view of all that one namespace holds: every role at once."""

    async def close(self) -> None:
        """Confirm what is on its way, as far as that takes no longer than a moment, and disconnect. Never raises."""
        ...
