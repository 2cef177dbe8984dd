"""The broker on NATS JetStream: jetq's verbs in terms of streams, subjects and headers, each kind in a module."""

from __future__ import annotations

from jetq.jetstream.fleet import Fleet
from jetq.jetstream.letters import Letters
from jetq.jetstream.producing import Producing
from jetq.jetstream.records import Records
from jetq.jetstream.recurring import Recurring
from jetq.jetstream.removing import Removing
from jetq.jetstream.surveying import Surveying
from jetq.jetstream.working import Working

__all__ = ["JetStreamBroker"]


class JetStreamBroker(Producing, Working, Surveying, Letters, Fleet, Records, Recurring, Removing):
    """See `jetq.broker.Broker`. Belongs to the event loop it was made on."""
