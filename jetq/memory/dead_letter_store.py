"""The dead letters of one queue of a memory broker."""

from __future__ import annotations

from collections.abc import Iterator

from jetq.model.dead_letter import DeadEntry, DeadLetter, is_same_letter
from jetq.model.job import Delivery

__all__ = ["DeadLetterStore"]


class DeadLetterStore:
    """The dead letters of one queue, by their sequence. Sequences begin at 1, and none is used twice."""

    def __init__(self) -> None:
        self._entries: dict[int, DeadEntry] = {}
        self._sequence = 0
        self._buried: set[tuple[str, int]] = set()
        self._imported: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[DeadEntry]:
        return iter(list(self._entries.values()))

    def store_dead(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Store a dead letter, unless a dead letter of the same message was stored before."""
        if (delivery.id, delivery.sequence) not in self._buried:
            self._buried.add((delivery.id, delivery.sequence))
            self._add(letter, delivery.body)

    def put(self, letter: DeadLetter, body: bytes) -> bool:
        """Store a dead letter that was imported, as from a file. Return False if the same letter is stored already.

        The message sequence in an imported letter says nothing about the messages of this queue.
        """
        if any(is_same_letter(letter, each.letter) for each in self):
            return False
        self._imported.add(self._add(letter, body))
        return True

    def drop(self, sequence: int) -> bool:
        """Remove the dead letter with `sequence`. Return False if it is gone already."""
        return self._entries.pop(sequence, None) is not None

    def has_buried(self, delivery: Delivery) -> bool:
        """Return whether a dead letter of exactly this message is stored. Imported letters do not count."""
        return any(
            (each.letter.id, each.letter.sequence) == (delivery.id, delivery.sequence)
            for each in self
            if each.sequence not in self._imported
        )

    def _add(self, letter: DeadLetter, body: bytes) -> int:
        self._sequence += 1
        self._entries[self._sequence] = DeadEntry(letter, body, self._sequence)
        return self._sequence
