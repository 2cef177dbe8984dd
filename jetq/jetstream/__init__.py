"""jetq's broker on NATS JetStream. This is the only package that imports nats."""

from __future__ import annotations

from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.transport.connection import Connection
from jetq.settings import Settings

__all__ = ["connect_broker"]


async def connect_broker(settings: Settings, *, name: str, patient: bool = False) -> JetStreamBroker:
    """Return a connected broker for the running event loop. `name` is how the server's monitoring shows the connection.

    Raises BrokerUnavailable within `settings.connect_timeout`; with `patient` (a worker) it keeps trying and logs why.
    """
    broker = JetStreamBroker(await Connection.open(settings, name=name, patient=patient), settings)
    await broker.start()
    return broker
