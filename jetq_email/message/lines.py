"""What may stand on one line of a mail's header, and in a word of its own: the guards against injection."""

from __future__ import annotations

import re
import unicodedata

from jetq_email.errors import Unsendable

__all__ = ["one_line", "one_word"]

_BREAKS = "\u0085\u2028\u2029"
"""Not controls by category or harmless by name, yet line breaks to `str.splitlines`, and so to the standard library."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What each provider takes as a tag, and every subject of NATS as a word."""


def one_line(text: str, field: str) -> str:
    """Return `text`, if it is one line of real characters.

    Raises Unsendable, naming `field`, if it holds a line break, a control character other than a tab, or half of a
    surrogate pair. It is refused rather than mended: who can put a line break here can put a header here.
    """
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character != "\t") or character in _BREAKS:
            raise Unsendable(
                f"{field}: it contains {_name(character)}, which no header may",
                hint="a header is one line of text",
            )
    return text


def one_word(text: str, field: str) -> str:
    """Return `text`, if it is a plain word. Raises Unsendable, naming `field`."""
    if not _WORD.fullmatch(text):
        raise Unsendable(f"{field} {text[:64]!r}: not one word", hint="1 to 64 letters, digits, '-' and '_'")
    return text


def _name(character: str) -> str:
    known = {"\r": "a carriage return", "\n": "a line break", "\x00": "a NUL"}
    return known.get(character, f"the character U+{ord(character):04X}")
