"""Checks what a line of a mail's header, or a single word, may hold. These checks prevent header injection."""

from __future__ import annotations

import re
import unicodedata

from jetq_email.errors import Unsendable

__all__ = ["one_line", "one_word"]

_BREAKS = "\u0085\u2028\u2029"
"""Characters that are no controls by category, or look harmless by name. `str.splitlines`, and so the standard library,
splits lines at them."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The form that every provider takes as a tag, and that every NATS subject takes as a token."""


def one_line(text: str, field: str) -> str:
    """Return `text` if it is one line of valid characters.

    Raises Unsendable, naming `field`, if `text` holds a line break, a control character other than a tab, or half of a
    surrogate pair. Such a text is refused and not mended, because a line break could add a header to the mail.
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
    """Return `text` if it is a plain word. Raises Unsendable, naming `field`."""
    if not _WORD.fullmatch(text):
        raise Unsendable(f"{field} {text[:64]!r}: not one word", hint="1 to 64 letters, digits, '-' and '_'")
    return text


def _name(character: str) -> str:
    known = {"\r": "a carriage return", "\n": "a line break", "\x00": "a NUL"}
    return known.get(character, f"the character U+{ord(character):04X}")
