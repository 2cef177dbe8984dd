"""A broker at which things go wrong, for `jetq.testing.faults` and for the tests of jetq itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from jetq.broker import Broker
from jetq.broker.enqueueing import DirectConnection
from jetq.model.job import EnqueueReceipt, JobRecord

__all__ = ["Fault", "Points", "Verb", "faulty", "raising", "slow"]

Verb = Callable[..., Any]

Fault = Callable[[Broker, str, Verb], Verb]
"""`(broker, name, verb) -> verb`: returns the function to call in place of a verb of a broker, or the verb itself."""


class _Faulty:
    """A broker that calls `broker` with the faults that are in the list at the time of each call. See
    `jetq.broker.Broker`."""

    def __init__(self, broker: Broker, faults: Sequence[Fault]) -> None:
        self._broker = broker
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._broker, name)
        for fault in self._faults if callable(verb) else ():
            verb = fault(self._broker, name, verb)
        return verb

    async def open_direct(self) -> _FaultyConnection | None:
        direct = await self._broker.open_direct()
        return None if direct is None else _FaultyConnection(direct, self._faults)


class _FaultyConnection:
    """A direct connection that stores nothing while there are faults, so that the app asks the broker, which has the
    faults."""

    def __init__(self, direct: DirectConnection, faults: Sequence[Fault]) -> None:
        self._direct = direct
        self._faults = faults

    @property
    def used(self) -> int:
        return self._direct.used

    @property
    def is_open(self) -> bool:
        return self._direct.is_open

    def close(self) -> None:
        self._direct.close()

    def store(self, job: JobRecord) -> EnqueueReceipt | None:
        return None if self._faults else self._direct.store(job)


def faulty(broker: Broker, faults: Sequence[Fault]) -> Broker:
    """Return a broker that is `broker` with `faults`, a list that may change at any time."""
    return cast(Broker, _Faulty(broker, faults))


def raising(
    error: Callable[[], Exception], verbs: Collection[str], *, times: float = float("inf"), after: bool = False
) -> Fault:
    """Return a fault: the first `times` calls of the coroutine functions `verbs` raise `error()`.

    With `after` a call does its work first and then raises, else it raises in place of its work.
    """
    left = times

    def fault(broker: Broker, name: str, verb: Verb) -> Verb:
        if name not in verbs:
            return verb

        @functools.wraps(verb)
        async def raises(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left <= 0:
                return await verb(*args, **kwargs)
            left -= 1
            if after:
                await verb(*args, **kwargs)
            raise error()

        return raises

    return fault


def slow(seconds: float, verbs: Collection[str]) -> Fault:
    """Return a fault: each call of the coroutine functions `verbs` begins `seconds` seconds later."""

    def fault(broker: Broker, name: str, verb: Verb) -> Verb:
        if name not in verbs:
            return verb

        @functools.wraps(verb)
        async def waits(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(seconds)
            return await verb(*args, **kwargs)

        return waits

    return fault


class Points:
    """A fault that counts points: one before a call of one of `verbs` begins, and one after the call has returned.

    reached: called at each point with its number, from 1, and its name.
    """

    def __init__(self, verbs: Collection[str], reached: Callable[[int, str], None]) -> None:
        self._verbs = verbs
        self._reached = reached
        self._count = 0

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name not in self._verbs:
            return verb
        if not inspect.iscoroutinefunction(verb):
            return functools.partial(self._around, name, verb)

        @functools.wraps(verb)
        async def around(*args: Any, **kwargs: Any) -> Any:
            self._point(f"before {name}")
            value = await verb(*args, **kwargs)
            self._point(f"after {name}")
            return value

        return around

    def _around(self, name: str, verb: Verb, /, *args: Any, **kwargs: Any) -> Any:
        self._point(f"before {name}")
        value = verb(*args, **kwargs)
        self._point(f"after {name}")
        return value

    def _point(self, where: str) -> None:
        self._count += 1
        self._reached(self._count, where)
