"""What the ledger of memory brokers holds: entries and counts, by their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from jetq.broker.numbers import COUNT_TTL
from jetq.model.cell import LedgerEntry, NewEntry

__all__ = ["LedgerStore"]

T = TypeVar("T")


class LedgerStore:
    """The entries and counts of one ledger. Sequences begin at 1, and none is used twice.

    now: returns the time of the store. at: runs an action at a time. `sequence` is that of the last write.
    """

    def __init__(self, now: Callable[[], float], at: Callable[[float, Callable[[], None]], None]) -> None:
        self._now = now
        self._at = at
        self._entries: _Tree[LedgerEntry] = _Tree()
        self._by_sequence: dict[int, LedgerEntry] = {}
        self._counts: _Tree[_Count] = _Tree()
        self._listeners: list[tuple[list[str], Callable[[LedgerEntry], None]]] = []
        self.sequence = 0

    def write(self, entries: Sequence[NewEntry]) -> bool:
        """Write all of `entries`, or none and return False if what one of them expects does not hold."""
        if not all(map(self._is_expected, entries)):
            return False
        for entry in entries:
            self._write(entry)
        return True

    def _is_expected(self, entry: NewEntry) -> bool:
        if entry.expected is None:
            return True
        newest = self.newest(entry.name if entry.on is None else entry.on)
        return entry.expected == (0 if newest is None else newest.sequence)

    def _write(self, entry: NewEntry) -> None:
        self.sequence += 1
        sequence, now = self.sequence, self._now()
        stored = LedgerEntry(entry.name, entry.body, sequence, now)
        replaced = self._entries.put(entry.name, stored)
        if replaced is not None:
            del self._by_sequence[replaced.sequence]
        self._by_sequence[sequence] = stored
        for where, on_entry in self._listeners:
            if _matches(where, entry.name.split(".")):
                on_entry(stored)
        if entry.ttl is not None:
            self._at(now + max(1, math.ceil(entry.ttl)), lambda: self._expire(sequence))

    def _expire(self, sequence: int) -> None:
        self.drop(sequence)  # another entry of the name has another sequence

    def newest(self, where: str) -> LedgerEntry | None:
        """Return the newest entry on `where`; None if none stands there."""
        return max(self._entries.matching(where), key=lambda entry: entry.sequence, default=None)

    def names(self, where: str) -> tuple[str, ...]:
        """Return the names of the entries on `where`."""
        return tuple(entry.name for entry in self._entries.matching(where))

    def listen(self, where: str, on_entry: Callable[[LedgerEntry], None]) -> Callable[[], None]:
        """Call `on_entry` with every entry on `where`, a name or filter, that is written from now on. Return a function
        that ends this."""
        listener = (where.split("."), on_entry)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def drop(self, sequence: int) -> bool:
        """Remove the entry with `sequence`. Return False if it does not stand any more."""
        entry = self._by_sequence.pop(sequence, None)
        if entry is not None:
            self._entries.remove(entry.name)
        return entry is not None

    def purge(self, where: str) -> int:
        """Remove the entries on `where`; return how many."""
        found = list(self._entries.matching(where))
        return sum(self.drop(entry.sequence) for entry in found)

    def count_up(self, name: str, by: int) -> int:
        """Add `by` to a count, which begins at 0, and return the new value."""
        before = self._counts.get(name)
        count = _Count(name, by + (0 if before is None else before.value))
        self._counts.put(name, count)
        self._at(self._now() + COUNT_TTL, lambda: self._forget(count))
        return count.value

    def _forget(self, count: _Count) -> None:
        if self._counts.get(count.name) is count:
            self._counts.remove(count.name)

    def purge_counts(self, where: str) -> int:
        """Remove the counts on `where`; return how many."""
        found = list(self._counts.matching(where))
        for count in found:
            self._counts.remove(count.name)
        return len(found)


def _matches(where: Sequence[str], name: Sequence[str]) -> bool:
    """Return whether the filter `where` matches `name`, both by their tokens."""
    if where[-1] == ">":
        where, name = where[:-1], name[: len(where) - 1] if len(name) >= len(where) else ()
    return len(where) == len(name) and all(wanted in ("*", token) for wanted, token in zip(where, name, strict=True))


class _Count(Struct, frozen=True):
    name: str
    value: int


class _Tree(Generic[T]):
    """Values by their names, which are tokens with dots between them: found by filters without a look at all names.

    A tree has the value of the tokens that lead to it, and a tree for each token that follows.
    """

    def __init__(self) -> None:
        self._value: T | None = None
        self._below: dict[str, _Tree[T]] = {}

    def get(self, name: str) -> T | None:
        """Return the value of `name`; None if there is none."""
        return next(self.matching(name), None)

    def put(self, name: str, value: T) -> T | None:
        """Give `name` a value; return the value that it had."""
        tree = self
        for token in name.split("."):
            tree = tree._below.setdefault(token, _Tree())
        replaced, tree._value = tree._value, value
        return replaced

    def remove(self, name: str) -> None:
        """Take the value of `name` away."""
        self._remove(name.split("."))

    def _remove(self, tokens: Sequence[str]) -> None:
        if not tokens:
            self._value = None
            return
        below = self._below[tokens[0]]
        below._remove(tokens[1:])
        if below._value is None and not below._below:
            del self._below[tokens[0]]

    def matching(self, where: str) -> Iterator[T]:
        """Yield the values of the names that `where`, a name or filter, matches."""
        return self._matching(where.split("."))

    def _matching(self, tokens: Sequence[str]) -> Iterator[T]:
        if not tokens:
            if self._value is not None:
                yield self._value
            return
        first, rest = tokens[0], tokens[1:]
        if first == ">":
            for below in self._below.values():
                yield from below._all()
        elif first == "*":
            for below in self._below.values():
                yield from below._matching(rest)
        elif first in self._below:
            yield from self._below[first]._matching(rest)

    def _all(self) -> Iterator[T]:
        if self._value is not None:
            yield self._value
        for below in self._below.values():
            yield from below._all()
