"""What workers of an app are handed out, as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jetq import Jetq
from jetq.broker import Broker
from jetq.model.job import Delivery
from jetq.testing.faulty import Verb, faulty


def watch_deliveries(app: Jetq, seen: Callable[[Delivery], None]) -> None:
    """Call `seen` with each delivery that a feed brings to a worker of `app`. To be called before the worker runs."""
    connect = app.session.connect

    async def connect_watched(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [_watched])

    def _watched(_: Broker, name: str, verb: Verb) -> Verb:
        if name != "feed":
            return verb

        def feed(queue: str, deliver: Callable[[Delivery], None], **options: Any) -> Any:
            def watched(delivery: Delivery) -> None:
                seen(delivery)
                deliver(delivery)

            return verb(queue, watched, **options)

        return feed

    app.session.connect = connect_watched
