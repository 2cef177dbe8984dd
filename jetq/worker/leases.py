"""Renews the leases of the deliveries that a worker holds, from a thread and a connection of its own.

The renewals need a thread, because user code may block the event loop. They need their own connection, because the
loop's connection is blocked together with the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from jetq.broker.cells import Cells
from jetq.broker.connect import Connect
from jetq.broker.consuming import Consuming
from jetq.errors import BrokerError
from jetq.model.job import Delivery, Level, Terms
from jetq.runtime.clock import steady
from jetq.runtime.threads import own_thread
from jetq.worker.limits.presence import Presence

__all__ = ["Leases", "OnTermsChange"]

_log = logging.getLogger("jetq.worker")

_MARGIN = 0.5
"""Seconds before its end at which a lease counts as lapsed, at most a tenth of the lease: an ack needs time to
arrive."""

_RENEW_EVERY = 1.0
"""Seconds between two rounds of renewals, or a third of a lease that is shorter than three of them."""

_RENEWALS_A_SECOND = 20
"""Renewals a second up to which each lease is renewed every second. So an `ack_wait` that is shortened to a few seconds
finds the leases fresh: the server applies a new `ack_wait` at once to held jobs. Beyond this number each lease is
renewed less often."""

_BOUNDS_EVERY = 0.05
"""Seconds between looks whether a delivery that bounds a timeout has lapsed."""

_TERMS_EVERY = 2.0
"""Seconds between looks at the terms of held deliveries, or half of a lease that is shorter than two such intervals."""

_ALL_TERMS_EVERY = 10.0
"""Seconds between looks at the terms of all queues, also of queues from which nothing is held."""

_MessageKey = tuple[str, int, float]
"""The key of one message: its queue, its sequence, and when it was stored, because a stream that is made anew counts
anew."""

OnTermsChange = Callable[[str, Level, str | None, int], None]
"""`(queue, level, by, lost)`: the deliveries of that level are handed out by another consumer than before (see
`Terms.by`; None: by none), or on shorter terms. `lost` is how many of the deliveries held here are not held any
more."""


class _Broker(Consuming, Cells, Protocol):
    """The parts of the broker that renewals use."""


class Leases:
    """The deliveries that a worker holds, renewed until they are dropped or may not be renewed any longer.

    `connect` makes the broker on the thread's own loop. `lease` is the broker's lease at first, in seconds: the least
    lease of `queues`. The terms are looked at every other second while something is held. on_terms_change: called on
    the loop on which this object was made. `presence` is the worker's presence, renewed with the leases once it was
    established.

    Guarantee: tests/integration/worker/test_leases.py: while its worker lives, no job is delivered again, however long
    it runs or blocks the event loop. tests/integration/worker/test_lapsed_leases.py: a lease that lapsed is not
    renewed, and whoever lost it settles nothing; what is held here is not started here again.
    """

    def __init__(
        self,
        connect: Connect,
        lease: float,
        queues: Sequence[str] = (),
        *,
        on_terms_change: OnTermsChange = lambda queue, level, by, lost: None,
    ) -> None:
        self._connect = connect
        self._first_lease = lease
        self._queues: tuple[tuple[str, Level], ...] = tuple((queue, "normal") for queue in queues)
        self._set_lease(lease)
        self._on_terms_change = on_terms_change
        self._callers_loop = asyncio.get_running_loop()
        self._held: dict[str, Delivery] = {}  # by job id, the delivery of each job that was held first
        self._beside: dict[_MessageKey, Delivery] = {}  # the other deliveries; there are hardly any
        self._bounds: dict[asyncio.Timeout, Delivery] = {}
        self._watches_bounds = False
        self._changing = threading.Lock()  # held deliveries change hands on the loop and lapse in the thread
        self._terms: dict[tuple[str, Level], Terms] = {}
        self._unrenewed: dict[_MessageKey, float] = {}  # the longest seconds without a renewal since the last look
        self.presence = Presence(lease, self._margin)
        self._thread = threading.Thread(target=self._run, name="jetq-leases", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Start the thread, which connects at once."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End the thread. Deliveries that are still held are no longer renewed."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5.0)

    def hold(self, delivery: Delivery) -> bool:
        """Renew `delivery` until `drop`, or until its `renew_until`.

        Return False if this worker holds the same message already. Then the broker handed the message out to this
        worker again: the earlier delivery goes on, with the lease and token of the newer one, and `delivery` must not
        be started beside it.
        """
        held = self._held.setdefault(delivery.id, delivery)
        return held is delivery or self._hold_another(held, delivery)

    def _hold_another(self, held: Delivery, delivery: Delivery) -> bool:
        if _key_of(held) != _key_of(delivery):
            held = self._beside.setdefault(_key_of(delivery), delivery)
            if held is delivery:
                return True
        with self._changing:
            held.token, held.since, held.handed_out_by = delivery.token, delivery.since, delivery.handed_out_by
            self._unrenewed.pop(_key_of(held), None)
        _log.warning(
            "%s %s is handed out here again while it runs: it goes on, and is not started twice",
            held.task or held.address, held.id,
        )  # fmt: skip
        return False

    def drop(self, delivery: Delivery) -> None:
        """Renew `delivery` no more: the delivery is settled, given up, or left to its lease."""
        if self._held.get(delivery.id) is delivery:
            del self._held[delivery.id]
            if self._beside:
                self._bring_forward(delivery.id)
        else:
            self._beside.pop(_key_of(delivery), None)

    def _bring_forward(self, id: str) -> None:
        for key, each in self._beside.items():
            if each.id == id:
                self._held[id] = each
                del self._beside[key]
                return

    def runs_still(self, delivery: Delivery) -> bool:
        """Return whether an earlier delivery of the job, whose lease is lost, still goes on in this worker. `hold` does
        not know the job then: another worker had it meanwhile and gave it back as a new message."""
        if not self._beside or not delivery.task:
            return False
        earlier = (self._held.get(delivery.id), *self._beside.values())
        return any(
            each is not None and each is not delivery and each.same_job(delivery) and not self.valid(each)
            for each in earlier
        )

    @property
    def held(self) -> list[Delivery]:
        """The deliveries that the worker holds now. Thread-safe."""
        # Each of these copies is one step under the interpreter's lock: the loop goes on adding and dropping.
        return list(self._held.values()) + list(self._beside.values())

    def valid(self, delivery: Delivery) -> bool:
        """Return whether `delivery` surely still belongs to this worker. Only then may the delivery be started or
        settled: an ack does not fence, so a stale ack would remove the job while its next holder has it."""
        return steady() < delivery.since + self._good_for

    def bound(self, delivery: Delivery) -> asyncio.Timeout:
        """Return a timeout, to be entered at once, that strikes as soon as `delivery` no longer belongs to this worker.
        Give the timeout to `unbound` after use."""
        # All such timeouts share one timer: one timer for each was measured to cost a tenth of a retry.
        bound = asyncio.timeout(None)
        self._bounds[bound] = delivery
        if not self._watches_bounds:
            self._watches_bounds = True
            self._callers_loop.call_later(_BOUNDS_EVERY, self._watch_bounds)
        return bound

    def unbound(self, bound: asyncio.Timeout) -> None:
        """Forget a timeout that has ended."""
        self._bounds.pop(bound, None)

    def _watch_bounds(self) -> None:
        for bound, delivery in list(self._bounds.items()):
            if not self.valid(delivery):
                del self._bounds[bound]
                bound.reschedule(0.0)
        self._watches_bounds = bool(self._bounds)
        if self._bounds:
            self._callers_loop.call_later(_BOUNDS_EVERY, self._watch_bounds)

    def _set_lease(self, lease: float) -> None:
        self._lease = lease
        self._margin = min(_MARGIN, lease / 10)
        self._good_for = lease - self._margin

    # --- the thread

    def _run(self) -> None:
        with own_thread(0):  # a log handler that blocks, for example one that enqueues, must not let the leases lapse
            asyncio.run(self._keep_until_stopped())

    async def _keep_until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        keeping = asyncio.create_task(self._keep())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopped, keeping], return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            _log.critical("leases are not renewed any more", exc_info=keeping.exception())
        keeping.cancel()
        await asyncio.wait([keeping])

    async def _keep(self) -> None:
        # Connect before the deliveries to renew are chosen: a delivery that was chosen before there was a connection
        # may have lapsed meanwhile.
        broker = await self._connect(patient=True)
        looking = asyncio.create_task(self._watch_terms(broker))
        try:
            while True:
                await asyncio.sleep(min(_RENEW_EVERY, self._lease / 3))
                await self._renew(broker)
        finally:
            looking.cancel()
            await broker.close()

    async def _renew(self, broker: _Broker) -> None:
        by_consumer: dict[tuple[str, Level], list[Delivery]] = {}
        for delivery in self._due():
            by_consumer.setdefault((delivery.queue, delivery.level), []).append(delivery)
        renewals: list[Coroutine[Any, Any, object]] = [
            self._extend(broker, deliveries) for deliveries in by_consumer.values()
        ]
        if self.presence.due:
            renewals.append(self._try(self.presence.renew(broker), "the slots of limits"))
        if renewals:
            await asyncio.gather(*renewals)

    def _due(self) -> list[Delivery]:
        """Return the held deliveries that need a renewal, still belong to this worker, and may go on."""
        now, may_go_on = steady(), time.monotonic()
        held = self.held
        # A little less than the time between two rounds, so that each round renews what the round before renewed.
        fresh = min(self._lease / 4, max(0.75 * _RENEW_EVERY, len(held) / _RENEWALS_A_SECOND))
        oldest, newest = now - self._good_for, now - fresh
        return [each for each in held if oldest < each.since < newest and may_go_on < each.renew_until]

    async def _extend(self, broker: Consuming, deliveries: list[Delivery]) -> None:
        # Read before the request, because the server counts the new lease from when the request arrives: a later time
        # would let this worker keep a job that is another's already.
        asked_at, tokens = steady(), [delivery.token for delivery in deliveries]
        if not await self._try(broker.extend(deliveries), f"{len(deliveries)} leases of {deliveries[0].queue}"):
            return
        with self._changing:
            for delivery, token in zip(deliveries, tokens, strict=True):
                # The renewal arrived between `asked_at` and now. If the lease has ended meanwhile, the renewal may have
                # come too late, and have renewed the lease of the worker that has the job since.
                if delivery.token == token and self.valid(delivery):
                    key, unrenewed = _key_of(delivery), steady() - delivery.since
                    self._unrenewed[key] = max(unrenewed, self._unrenewed.get(key, 0.0))
                    delivery.since = asked_at

    async def _try(self, renewal: Coroutine[Any, Any, None], what: str) -> bool:
        try:
            async with asyncio.timeout(max(self._lease / 2, 0.25)):
                await renewal
        except TimeoutError:
            _log.warning("%s could not be renewed in time", what)
            return False
        except BrokerError as error:
            _log.warning("%s could not be renewed: %s", what, error.message)
            return False
        except Exception:  # this thread must outlive every error: without the thread every lease lapses
            _log.exception("%s could not be renewed", what)
            return False
        return True

    # --- the terms, which others may change

    async def _watch_terms(self, broker: Consuming) -> None:
        looked_at = -math.inf
        while True:
            consumers: set[tuple[str, Level]] = {(each.queue, each.level) for each in self.held}
            if time.monotonic() - looked_at > _ALL_TERMS_EVERY:
                looked_at = time.monotonic()
                consumers |= {*self._queues, *self._terms}
            seen = [await self._check_terms(broker, queue, level) for queue, level in consumers]
            if all(seen):
                self._unrenewed = {}
            await asyncio.sleep(max(0.25, min(_TERMS_EVERY, self._lease / 2)))

    async def _check_terms(self, broker: Consuming, queue: str, level: Level) -> bool:
        """Look at the terms of one level, and follow them. Return whether the terms could be seen."""
        held = [each for each in self.held if each.queue == queue and each.level == level]
        tokens = [each.token for each in held]
        try:
            terms = await broker.terms(queue, level)
        except BrokerError as error:
            _log.info("queue %s: whether its leases are still the same is not known: %s", queue, error.message)
            return False
        except Exception:  # see `_try`
            _log.exception("queue %s: whether its leases are still the same is not known", queue)
            return False
        known = self._terms.get((queue, level))
        held = [each for each, token in zip(held, tokens, strict=True) if each.token == token]
        before = [each for each in held if self.valid(each)]
        if terms is not None:
            self._adopt(queue, level, terms)
        self._forsake(before, terms)
        lost = sum(not self.valid(each) for each in before)
        by = None if terms is None else terms.by
        if lost or terms is None or (known is not None and known.by != by):
            more = f"; {lost} jobs held here may run elsewhere as well" if lost else ""
            _log.warning("queue %s: %s%s", queue, _what_happened(known, terms), more)
            self._notify(queue, level, by, lost)
        return True

    def _forsake(self, deliveries: list[Delivery], terms: Terms | None) -> None:
        """Let deliveries lapse that another consumer has handed out than the present one, and deliveries that were not
        renewed for longer than the terms allow. A later renewal of such a delivery proves nothing: it may have renewed
        the lease of the next holder."""
        with self._changing:
            for delivery in deliveries:
                by = delivery.handed_out_by
                if (
                    terms is None
                    or (by and by != terms.by)
                    or self._unrenewed.get(_key_of(delivery), 0.0) > terms.lease - self._margin
                ):
                    delivery.since = -math.inf

    def _adopt(self, queue: str, level: Level, terms: Terms) -> None:
        """Follow `terms` from now on."""
        known = self._terms.get((queue, level))
        self._terms[queue, level] = terms
        unknown = [self._first_lease] if any(each not in self._terms for each in self._queues) else []
        was = self._lease
        self._set_lease(min([*unknown, *(each.lease for each in self._terms.values())]))
        if terms.lease < was or (known is not None and known.lease != terms.lease):
            _log.warning(
                "queue %s: leases last %g s now, not %g s, because the ack_wait of its consumer was changed",
                queue, terms.lease, was if known is None else known.lease,
            )  # fmt: skip

    def _notify(self, queue: str, level: Level, by: str | None, lost: int) -> None:
        try:
            self._callers_loop.call_soon_threadsafe(self._on_terms_change, queue, level, by, lost)
        except RuntimeError:  # that loop has ended
            pass


def _key_of(delivery: Delivery) -> _MessageKey:
    return delivery.queue, delivery.sequence, delivery.stored_at


def _what_happened(known: Terms | None, terms: Terms | None) -> str:
    if terms is None:
        return "its consumer was deleted"
    if known is not None and known.by == terms.by:
        return "the ack_wait of its consumer was shortened"
    return "its consumer was made anew"
