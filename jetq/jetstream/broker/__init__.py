"""The broker on NATS JetStream: jetq's verbs in terms of streams, subjects and headers, each kind in a module."""

from __future__ import annotations

from jetq.jetstream.broker.consuming import Working
from jetq.jetstream.broker.dead_letters import Letters
from jetq.jetstream.broker.enqueueing import Producing
from jetq.jetstream.broker.fleet import Fleet
from jetq.jetstream.broker.queue_removal import Removing
from jetq.jetstream.broker.records import Records
from jetq.jetstream.broker.schedules import Recurring
from jetq.jetstream.broker.survey import Surveying

__all__ = ["JetStreamBroker"]


class JetStreamBroker(Producing, Working, Surveying, Letters, Fleet, Records, Recurring, Removing):
    """See `jetq.broker.Broker`. Belongs to the event loop it was made on."""
