"""Reads the words of a NATS server from the bytes of one connection.

nats-py's parser is not used (2.16.0, read and run). It takes a vertical tab or form feed inside a subject for the end
of the subject. So one message with such a subject, which anybody may store, ends every connection it is delivered to.
When it cannot make out what came, and 4 KiB are there already, it waits for more bytes for ever. It is also slow: two
regular expressions, two coroutines and a dict per message are a third of what a job costs that does nothing (Python
3.11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from jetq.jetstream.transport.message import Message

__all__ = ["LARGEST", "Parser", "ProtocolError"]

_LONGEST_LINE = 1024 * 1024
"""Bytes. The longest line is the INFO of a large cluster. The line of a message has its subjects, 4 KiB each by
default."""

LARGEST = 128 * 1024 * 1024
"""The most bytes of a message that a server may send. The server's `max_payload` does not tell them: it may have been
higher when the message was stored, and an answer of the API has the body in base64. nats-server allows 64 MiB unless
`max_pending` is raised too, which is 85 MiB in base64. Only bytes that have come take memory, never a claimed size."""

_SIGN_OF_LIFE = 8 * 1024
"""Bytes of a message under way that count as a sign of life. Even the slowest network brings this much in ten seconds.
Answers to pings, which a message of a wrong size swallows, do not."""

_SIGNS_OF_LIFE = 128
"""The most signs of life that a message under way gives. Without this limit, a wrong size near `LARGEST` would swallow
a quiet connection's words for days."""

_MOST_DIGITS = 10
_CRLF = b"\r\n"
_WORDS = frozenset({b"PING", b"PONG", b"INFO", b"-ERR"})


class ProtocolError(Exception):
    """The bytes that came are nothing that a NATS server says. It is not known any more where the next word begins."""


class Parser:
    """Takes bytes as they come. `words` counts the messages and other words that were understood, each when it was
    complete.

    `handlers` has the receiver of the messages of each subscription, by the subscription's number as text. A message
    for nobody is dropped. `largest` is the most bytes that headers and payload of a message may have together.
    """

    def __init__(self, handlers: Mapping[bytes, Callable[[Message], None]], largest: int = LARGEST) -> None:
        self._handlers = handlers
        self._largest = largest
        self._held = bytearray()
        self._needed = 0
        self.words = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Read on: hand over the messages that are complete now, and return the other complete words.

        Each word comes with the rest of its line. Raises ProtocolError, and what handlers raise; after an error the
        parser is of no use any more.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return []
            data = bytes(self._held)
            self._held.clear()
        return self._read(data)

    def _read(self, data: bytes) -> list[tuple[bytes, bytes]]:
        # One loop that calls no functions of jetq: this runs once for each job, acknowledgement and result.
        words: list[tuple[bytes, bytes]] = []
        handlers, largest = self._handlers, self._largest
        find, startswith = data.find, data.startswith
        at = count = needed = 0
        while (end := find(_CRLF, at)) >= 0:
            if startswith(b"HMSG ", at):
                fields = data[at + 5 : end].split(b" ")
                named = len(fields) - 2
                split = _number(fields[-2]) if named > 0 else 0
            elif startswith(b"MSG ", at):
                fields = data[at + 4 : end].split(b" ")
                named, split = len(fields) - 1, 0
            else:
                if (word := _word(data[at:end])) is not None:
                    words.append(word)
                at = end + 2
                count += 1
                continue
            if named != 2 and named != 3:
                raise ProtocolError("a message without a place or a size")
            start, size = end + 2, _number(fields[-1])
            if split > size or size > largest:
                raise ProtocolError("a message of impossible size")
            stop = start + size
            if stop + 2 > len(data):
                needed = stop + 2 - at
                break
            if not startswith(_CRLF, stop):
                raise ProtocolError("a message of another size than it said")
            handler = handlers.get(fields[1])
            if handler is None:
                _number(fields[1])
            else:
                subject = fields[0].decode("utf-8", "backslashreplace")
                reply = fields[2].decode("utf-8", "backslashreplace") if named == 3 else ""
                handler(Message(subject, reply, data[start + split : stop], data[start : start + split]))
            at = stop + 2
            count += 1
        self.words += count
        self._hold(data[at:], needed)
        return words

    @property
    def progress(self) -> int:
        """How far a message under way has come, in signs of life: each is 8 KiB of it, or a 128th if that is more."""
        return len(self._held) // max(_SIGN_OF_LIFE, self._needed // _SIGNS_OF_LIFE)

    def _hold(self, rest: bytes, needed: int) -> None:
        if not needed and len(rest) > _LONGEST_LINE:
            raise ProtocolError("a line without an end")
        self._held += rest
        self._needed = needed


def _word(line: bytes) -> tuple[bytes, bytes] | None:
    """Return a word of the server that asks for something to be done, and the rest of its line; None for `+OK`."""
    word, _, rest = line.partition(b" ")
    if word in _WORDS:
        return word, rest
    if word != b"+OK":
        raise ProtocolError("an unknown word")
    return None


@lru_cache(maxsize=4096)
def _number(field: bytes) -> int:
    if not field.isdigit() or len(field) > _MOST_DIGITS:
        raise ProtocolError("a number that is none")
    return int(field)
