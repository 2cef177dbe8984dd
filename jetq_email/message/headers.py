"""Writes headers as they travel: in ASCII (RFC 2047), folded at 78 columns (RFC 5322), and so that they are read as
given.

The standard library is not used because it changes texts when it folds them. Until Python 3.11.10 and 3.12.5 an encoded
word in a text became header lines. Until 3.12.9 and 3.13.2 a long display name lost its quotes. In 3.14 a long URL
still becomes encoded words, and spaces between encoded words are lost.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence

from jetq_email.errors import Unsendable
from jetq_email.message.address import Mailbox, parse_mailbox

__all__ = ["address_header", "folded", "own_header", "text_header"]

_WIDTH = 78
"""Columns of a line that can be folded (RFC 5322 2.1.1)."""

_ENCODED_WIDTH = 76
"""Columns of a line that has an encoded word (RFC 2047 2)."""

_LONGEST_LINE = 998
"""Octets of any line, folded or not (RFC 5322 2.1.1)."""

_LONGEST_WORD = 75
"""Columns of an encoded word (RFC 2047 2)."""

_LONGEST_NAME = 50
"""Columns of a header's name. Beside a name up to this length any character fits as an encoded word on the line."""

_AROUND = len("=?utf-8?q??=")

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
"""Octets that an encoded word may hold unchanged, also in a display name (RFC 2047 5 (3))."""

_WORD = re.compile(r"([ \t]*)([^ \t]+)")
_LOOKS_ENCODED = re.compile(r"=\?[^?]*\?[bBqQ]\?", re.DOTALL)
"""The beginning of an encoded word. Some readers also accept an encoded word with blanks in it."""

_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")

_ADDRESSES = frozenset({"sender", "disposition-notification-to", "return-receipt-to", "errors-to"})
"""Headers whose value is an address."""

_TOKENS = frozenset(
    "in-reply-to references auto-submitted precedence list-archive list-help list-owner list-post list-subscribe"
    " list-unsubscribe list-unsubscribe-post".split()
)
"""Headers of ids, URLs and keywords. Nobody would decode an encoded word in these."""

Piece = tuple[str, str]
"""The blanks before a word, and the word. A line may end before the blanks; without blanks it may not end there."""


def text_header(name: str, value: str) -> bytes:
    """Return the header `name` with a text for people. It is encoded from the first word that needs it to the last."""
    pieces = _WORD.findall(value)
    needing = _needing(value, pieces)
    if not needing and _longest_line(name, pieces) <= _LONGEST_LINE:
        return _written(name, _after_colon(pieces) or [(" ", "")])
    if not _is_plainly_spaced(pieces, needing):
        return _written(name, _encoded_words(value, name, 0))
    before, inside, after = pieces[: needing.start], pieces[needing.start : needing.stop], pieces[needing.stop :]
    column = sum(len(blanks) + len(word) for blanks, word in before)
    text = "".join(blanks + word for blanks, word in inside).lstrip(" ")
    return _written(name, [*_after_colon(before), *_encoded_words(text, name, column), *after])


def own_header(name: str, value: str, field: str) -> bytes:
    """Return the header `name` with a value that a mail's author gave. Raises Unsendable, naming `field`.

    A long word is not split, because readers need a URL, an id or JSON whole.
    """
    lower = name.lower()
    if lower in _ADDRESSES:
        return address_header(name, [parse_mailbox(value, field)])
    if lower not in _TOKENS:
        return text_header(name, value)
    pieces = _WORD.findall(value)
    if not value.isascii() or _LOOKS_ENCODED.search(value):
        raise Unsendable(f"{field}: it takes ASCII alone", hint="percent-encode what is not in a URL")
    if _longest_line(name, pieces) > _LONGEST_LINE:
        raise Unsendable(f"{field}: a word in it is longer than a line of mail, of {_LONGEST_LINE} octets, may be")
    return _written(name, _after_colon(pieces))


def address_header(name: str, mailboxes: Sequence[Mailbox], *, only_ascii: bool = False) -> bytes:
    """Return the header `name` with addresses.

    Addresses whose local part is beyond ASCII are written in UTF-8 (RFC 6532). With `only_ascii` each becomes a group
    without members, called by the display name, or by the address if there is no name (RFC 6857 3.1.8).
    """
    pieces: list[Piece] = []
    for index, mailbox in enumerate(mailboxes, 1):
        comma = "," if index < len(mailboxes) else ""
        if only_ascii and not mailbox.is_ascii:
            pieces += [*_phrase(mailbox.name or mailbox.address, name), (" ", ":;" + comma)]
            continue
        address = f"<{mailbox.address}>" if mailbox.name else mailbox.address
        pieces += [*_phrase(mailbox.name, name), (" ", address + comma)]
    return _written(name, pieces)


def folded(name: str, words: Sequence[str]) -> bytes:
    """Return the header `name` with `words` unchanged, and one blank between two words."""
    return _written(name, [(" ", word) for word in words])


# --- words


def _needing(value: str, pieces: Sequence[Piece]) -> range:
    """Return the range of words that must be encoded, with all words between them. If the text begins or ends with
    blanks, which readers drop, the range is the whole text."""
    if _LOOKS_ENCODED.search(value) or value != value.strip(" \t"):
        return range(max(len(pieces), 1))
    indexes = [index for index, (_, word) in enumerate(pieces) if not word.isascii()]
    return range(indexes[0], indexes[-1] + 1) if indexes else range(0)


def _is_plainly_spaced(pieces: Sequence[Piece], needing: range) -> bool:
    """Return whether there is exactly one space on each side of the encoded words.

    Readers treat several spaces there in different ways.
    """
    neighbours = [*pieces[max(needing.start, 1) : needing.start + 1], *pieces[needing.stop : needing.stop + 1]]
    return 0 < len(needing) < len(pieces) and all(blanks == " " for blanks, _ in neighbours)


def _after_colon(pieces: Sequence[Piece]) -> list[Piece]:
    """Return `pieces` with one space between the colon and the first word."""
    return [(" " if index == 0 else blanks, word) for index, (blanks, word) in enumerate(pieces)]


def _phrase(name: str, header: str) -> Iterable[Piece]:
    """Return a display name: unchanged, quoted, or encoded."""
    if not name.isascii() or "\t" in name or "=?" in name or "?=" in name or _longest_line(header, [("", name)]) > 900:
        return _encoded_words(name, header, 0)
    if _ATOMS.fullmatch(name) or not name:
        return [(" ", word) for word in name.split()]
    quoted = '"' + name.replace("\\", r"\\").replace('"', r"\"") + '"'
    return _after_colon(_WORD.findall(quoted))


def _encoded_words(text: str, name: str, column: int) -> Iterator[Piece]:
    """Yield `text` as encoded words. The first follows `column` columns of other words of the header `name`."""
    octets = text.encode()
    quoted = _width(octets, quoted=True) <= 2 * len(octets)  # people can read this form; base64 makes 4 octets of 3
    first = _ENCODED_WIDTH - len(name) - 2 if column == 0 and len(name) <= _LONGEST_NAME else _LONGEST_WORD
    room = min(first, _LONGEST_WORD) - _AROUND
    word = b""
    for character in text:
        longer = word + character.encode()
        if word and _width(longer, quoted) > room:
            yield " ", _encoded(word, quoted)
            longer, room = character.encode(), _LONGEST_WORD - _AROUND
        word = longer
    if word:
        yield " ", _encoded(word, quoted)


def _width(octets: bytes, quoted: bool) -> int:
    if quoted:
        return sum(1 if octet in _PLAIN or octet == 0x20 else 3 for octet in octets)
    return (len(octets) + 2) // 3 * 4


def _encoded(octets: bytes, quoted: bool) -> str:
    if not quoted:
        return f"=?utf-8?b?{b64encode(octets).decode()}?="
    text = "".join("_" if each == 0x20 else chr(each) if each in _PLAIN else f"={each:02X}" for each in octets)
    return f"=?utf-8?q?{text}?="


# --- lines


def _longest_line(name: str, pieces: Sequence[Piece]) -> int:
    return max(len(line.encode()) for line in _lines(name, _after_colon(pieces)))


def _written(name: str, pieces: Iterable[Piece]) -> bytes:
    return "".join(f"{line}\r\n" for line in _lines(name, pieces)).encode()


def _lines(name: str, pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield the lines of a header.

    A line ends before blanks. It ends right after the colon only if an encoded word needs that.
    """
    line = f"{name}:"
    for blanks, word in pieces:
        width = _ENCODED_WIDTH if word.startswith("=?utf-8?") else _WIDTH
        is_first = line == f"{name}:" and not (width == _ENCODED_WIDTH and len(name) > _LONGEST_NAME)
        if blanks and not is_first and len(line) + len(blanks) + len(word) > width:
            yield line
            line = ""
        line += blanks + word
    yield line
