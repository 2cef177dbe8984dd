"""The port: the only verbs that jetq may use on the outside world, in roles. Code that needs one role takes that role.

Two implementations, `jetq.jetstream` and `jetq.memory`, pass one contract suite (`tests/integration/contract/`). The
port and both implementations name their files by the roles. The port is the project's own seam, not a plugin interface:
it changes as jetq needs.

No verb holds up producers and workers, however many jobs are stored. On JetStream three rules see to that. They were
measured in `jetq.jetstream.streams.reading` and are held by tests/integration/queues/test_lookups.py:

- A get whose filter matches many messages begins above the stream's first message, or above what was delivered.
- Nothing that is stored among the jobs is asked for by `batch`, `multi_last` or `subjects_filter`.
- A verb that reads many messages gets them by sequence, several gets under way at once.

Every verb may raise these errors: BrokerUnavailable when there is no connection, NotStored when the fate of a write is
unknown after `timeout`, Rejected when the broker refused the write, NotSent when no connection came. A verb that gave
up does not do its work later. A verb never hangs.
"""

from __future__ import annotations

from typing import Protocol

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.consuming import Consuming
from jetq.broker.dead_letters import DeadLetters
from jetq.broker.enqueueing import Enqueueing
from jetq.broker.fleet import Fleet
from jetq.broker.ledger import Ledger
from jetq.broker.queues import Queues
from jetq.broker.records import Records
from jetq.broker.results import Results
from jetq.broker.schedules import Schedules

__all__ = ["Broker"]


class Broker(
    Clock, Enqueueing, Consuming, Results, Queues, DeadLetters, Schedules, Cells, Records, Ledger, Fleet, Protocol
):
    """One connection's view of everything that one namespace holds: every role at once."""

    async def close(self) -> None:
        """Confirm what is on its way, as far as that takes no longer than a moment, and disconnect. Never raises."""
        ...
