"""Dead letters as lines of JSON, for a file: all that is known of each letter, and its bytes exactly."""

from __future__ import annotations

import base64

import msgspec
from msgspec import Raw, Struct

from jetq.encoding.headers import BadHeader, check_letter, letter_header, read_letter
from jetq.encoding.json_text import is_too_deep
from jetq.errors import DefinitionError
from jetq.model.dead_letter import DeadEntry
from jetq.model.names import check_queue

__all__ = ["FORMAT", "BadLine", "read_line", "write_line"]

FORMAT = 1
"""The version of the format of a line. A line of a newer format is not read."""


class BadLine(ValueError):
    """A line that is no exported dead letter."""


class _ExportedLetter(Struct, forbid_unknown_fields=True):
    """One exported dead letter. `text` has the body if the body is UTF-8, otherwise `base64` has it."""

    format: int
    letter: Raw
    text: str | None = None
    base64: str | None = None


_decode = msgspec.json.Decoder(_ExportedLetter).decode
_encode = msgspec.json.Encoder().encode


def write_line(entry: DeadEntry) -> bytes:
    """Return one line for `entry`, without its line end. The line does not tell the place of the letter among others.
    Raises NewerVersion for a letter that a newer jetq has written."""
    check_letter(entry.letter)
    letter = Raw(letter_header(entry.letter).encode())
    try:
        body = {"text": entry.body.decode()}
    except UnicodeDecodeError:
        body = {"base64": base64.b64encode(entry.body).decode()}
    return _encode({"format": FORMAT, "letter": letter, **body})


def read_line(line: bytes) -> DeadEntry:
    """Return the dead letter that `write_line` wrote. Raises BadLine, which says what is wrong."""
    if is_too_deep(line):
        raise BadLine("it is nested too deeply")
    try:
        found = _decode(line)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeError are ValueErrors
        raise BadLine(f"it is no exported dead letter: {error}") from None
    if found.format != FORMAT:
        raise BadLine(f"it is of format {found.format}, and this jetq reads format {FORMAT}")
    try:
        letter = read_letter(bytes(found.letter).decode())
        check_queue(letter.queue)
    except (BadHeader, UnicodeError) as error:
        raise BadLine(f"its letter is unreadable: {error}") from None
    except DefinitionError as error:
        raise BadLine(error.message) from None
    return DeadEntry(letter=letter, body=_body(found), sequence=0)


def _body(found: _ExportedLetter) -> bytes:
    if (found.text is None) == (found.base64 is None):
        raise BadLine("it needs the body as text, or as base64")
    if found.text is not None:
        return found.text.encode()
    try:
        return base64.b64decode(found.base64 or "", validate=True)
    except ValueError as error:
        raise BadLine(f"its base64 is none: {error}") from None
