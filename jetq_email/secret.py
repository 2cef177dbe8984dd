"""Passwords and keys that are never printed."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret:
    """A text that prints as stars, so that no log line, traceback or repr shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "'***'"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)
