"""Declarations of queues, as an app writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from jetq.errors import DefinitionError
from jetq.model.definitions.checks import check_level
from jetq.model.job import Level
from jetq.model.names import check_queue

__all__ = ["Queue", "check_queues", "check_served", "check_weight"]


class Queue(Struct, frozen=True):
    """A queue with levels or a weight: `Jetq(queues=[Queue("mail", levels="strict")])`.

    Raises DefinitionError if the name, the levels or a weight cannot be.
    """

    name: str
    """The name of the queue."""

    levels: Literal["strict"] | Mapping[Level, int] | None = None
    """Lets its jobs have the priorities `high`, `normal` and `low`; None for a queue without. `strict` starts no job
    while one of a higher level is ready; weights, like `{"high": 3, "normal": 2, "low": 1}`, start jobs in that
    proportion while there are some of each level. Producers and workers must be told; once made, the levels stay."""

    weight: int = 1
    """This queue's part of the slots of a worker that serves several, 1 to 1000, while each queue has work."""

    def __post_init__(self) -> None:
        check_queue(self.name)
        check_weight(self.name, self.weight)
        if self.levels is None or self.levels == "strict":
            return
        if not isinstance(self.levels, Mapping) or not self.levels:
            raise DefinitionError(f"queue {self.name}: levels is 'strict' or weights by level, not {self.levels!r}")
        for level, weight in self.levels.items():
            check_level(level)
            check_weight(f"{self.name}, level {level}", weight)

    @property
    def weights(self) -> Mapping[Level, int] | None:
        """The weights of the queue's levels; None if the levels are strict, or the queue has none."""
        return self.levels if isinstance(self.levels, Mapping) else None


def check_queues(queues: Any) -> dict[str, Queue]:
    """Return `queues` by name. Raises DefinitionError for a value that is no Queue, and for a repeated name."""
    if not isinstance(queues, Iterable):
        raise DefinitionError(f"queues takes a list of Queue(...), not {queues!r}")
    found: dict[str, Queue] = {}
    for queue in queues:
        if not isinstance(queue, Queue):
            raise DefinitionError(f"queues takes Queue(...), not {queue!r}")
        if queue.name in found:
            raise DefinitionError(f"queue {queue.name} is declared twice")
        found[queue.name] = queue
    return found


def check_served(queues: Any) -> tuple[str, ...]:
    """Return the names of the queues that a worker is to serve. Raises DefinitionError for values that are no names."""
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise DefinitionError(f"a worker's queues are a list of names, or weights by name, not {queues!r}")
    return tuple(check_queue(queue) for queue in queues)


def check_weight(name: str, weight: Any) -> int:
    """Return `weight` if it is a whole number from 1 to 1000. Raises DefinitionError otherwise, which names `name`."""
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 1000:
        raise DefinitionError(f"the weight of queue {name} is a whole number from 1 to 1000, not {weight!r}")
    return weight
