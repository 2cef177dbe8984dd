"""The broker on NATS JetStream: jetq's verbs in terms of streams, subjects and headers, one module per role."""

from __future__ import annotations

from jetq.jetstream.broker.cells import Cells
from jetq.jetstream.broker.consuming import Consuming
from jetq.jetstream.broker.dead_letters import DeadLetters
from jetq.jetstream.broker.enqueueing import Enqueueing
from jetq.jetstream.broker.fleet import Fleet
from jetq.jetstream.broker.ledger import Ledger
from jetq.jetstream.broker.queue_removal import QueueRemoval
from jetq.jetstream.broker.queues import Queues
from jetq.jetstream.broker.records import Records
from jetq.jetstream.broker.results import Results
from jetq.jetstream.broker.schedules import Schedules
from jetq.jetstream.broker.survey import Deployment

__all__ = ["JetStreamBroker"]


class JetStreamBroker(
    Enqueueing,
    Consuming,
    Results,
    Queues,
    QueueRemoval,
    Deployment,
    DeadLetters,
    Schedules,
    Cells,
    Records,
    Ledger,
    Fleet,
):
    """See `jetq.broker.Broker`. A broker belongs to the event loop it was made on.

    Every part inherits `Base` and no other part. What one part needs of another is a function of the other part's
    module.
    """
