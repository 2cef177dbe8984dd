"""What a server says, in whatever pieces it comes, and what no server says."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetq.jetstream.transport.message import Message, read_headers
from jetq.jetstream.transport.parser import LARGEST, Parser, ProtocolError
from tests.unit.properties.examples import examples

Said = tuple[object, ...]


class Reader:
    """A parser, and what it understood."""

    def __init__(self, largest: int = 1_000_000) -> None:
        self.said: list[Said] = []
        self.parser = Parser({b"7": self._message}, largest)

    def read(self, *pieces: bytes) -> list[Said]:
        for piece in pieces:
            self.said += self.parser.feed(piece)
        return self.said

    def _message(self, msg: Message) -> None:
        self.said.append((msg.subject, msg.reply, msg.data, msg.block))


SAID: list[tuple[bytes, Said | None]] = [
    (b"PING\r\n", (b"PING", b"")),
    (b"PONG\r\n", (b"PONG", b"")),
    (b"+OK\r\n", None),
    (b'INFO {"a":"b c"}\r\n', (b"INFO", b'{"a":"b c"}')),
    (b"-ERR 'Permissions Violation'\r\n", (b"-ERR", b"'Permissions Violation'")),
    (b"MSG a.b 7 0\r\n\r\n", ("a.b", "", b"", b"")),
    (b"MSG a 7 r.1 4\r\n\r\n\r\n\r\n", ("a", "r.1", b"\r\n\r\n", b"")),
    (b"MSG a\x0bb\x0cc\x1c\x85\xa0 7 r 2\r\nhi\r\n", ("a\x0bb\x0cc\x1c\\x85\\xa0", "r", b"hi", b"")),
    (b"MSG a 8 r 2\r\nhi\r\n", None),
    (b"HMSG a 7 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", ("a", "", b"hi", b"NATS/1.0\r\n\r\n")),
    (b"HMSG a 7 r 1 1\r\nx\r\n", ("a", "r", b"", b"x")),
    (b"HMSG a 7 r 0 2\r\nhi\r\n", ("a", "r", b"hi", b"")),
]


@examples(100)
@given(st.lists(st.sampled_from(SAID), min_size=1, max_size=8), st.data())
def test_whatever_the_pieces_the_same_is_understood(said: list[tuple[bytes, Said | None]], data: st.DataObject) -> None:
    text = b"".join(line for line, _ in said)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    reader = Reader()
    understood, expected = reader.read(*pieces), [each for _, each in said if each is not None]
    for is_message in (True, False):  # in a piece the messages come first
        assert _of_kind(understood, is_message) == _of_kind(expected, is_message)
    assert reader.parser.words == len(said)


def _of_kind(said: list[Said], is_message: bool) -> list[Said]:
    return [each for each in said if (len(each) == 4) is is_message]


def test_byte_by_byte() -> None:
    text = b"".join(line for line, _ in SAID)
    assert Reader().read(*(bytes([byte]) for byte in text)) == [each for _, each in SAID if each is not None]


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"WHAT?\r\n",
        b"ping\r\n",
        b"MSG \r\n",
        b"MSG a 7\r\n",
        b"MSG a 7 r x 2\r\nhi\r\n",
        b"MSG a x 2\r\nhi\r\n",
        b"MSG a 7 -2\r\nhi\r\n",
        b"MSG a 7 1_0\r\n0123456789\r\n",
        b"MSG a 7 \xb2\r\nhi\r\n",
        b"MSG a 7 1\r\nhi\r\n",
        b"MSG a 7 3\r\nhi\r\n\r\n",
        b"MSG a 7 1000001\r\n",
        b"MSG a 7 " + b"9" * 5000 + b"\r\n",
        b"HMSG a 7 2\r\nhi\r\n",
        b"HMSG a 7 3 2\r\nhi\r\n",
        b"x" * (1024 * 1024 + 1),
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_no_server_says_ends_it_at_once(line: bytes) -> None:
    """Guarantee: nothing is waited for that will not come."""
    with pytest.raises(ProtocolError):
        Reader().read(b"PING\r\n" + line)


def test_a_size_that_is_claimed_takes_no_memory() -> None:
    reader = Reader(LARGEST)
    tracemalloc.start()
    try:
        reader.read(b"MSG a 7 %d\r\n" % LARGEST, b"x" * 1000)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()
    assert reader.said == []


@pytest.mark.parametrize(("size", "sign"), [(20_000, 8 * 1024), (64 * 1024 * 1024, 512 * 1024)])
def test_a_message_under_way_shows_signs_of_life_but_not_for_ever(size: int, sign: int) -> None:
    """Guarantee: a wrong size is not believed for longer than 128 signs of life."""
    reader = Reader(LARGEST)
    reader.read(b"PING\r\n", b"MSG a 7 %d\r\n" % size)
    assert reader.parser.progress == 0
    reader.read(b"x" * (sign - 100))
    assert reader.parser.progress == 0
    reader.read(b"x" * 200)
    assert reader.parser.progress == 1
    reader.read(b"x" * (size - sign - 100), b"\r\n")
    assert (reader.parser.progress, len(reader.said)) == (0, 2)


@examples(200)
@given(st.binary(max_size=300))
def test_bytes_at_random_are_words_or_an_error(data: bytes) -> None:
    reader = Reader()
    try:
        reader.read(b"PONG\r\n", data)
    except ProtocolError:
        pass
    assert reader.said[0] == (b"PONG", b"")


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n", {"Nats-Msg-Id": "7"}),
        (b"NATS/1.0\r\nNats-Msg-Id: 7\r\nJetq: {}\r\n\r\n", {"Nats-Msg-Id": "7", "Jetq": "{}"}),
        (b"NATS/1.0\r\na:b\r\nc:\t d \r\n\r\n", {"a": "b", "c": "d"}),
        (b"NATS/1.0\r\na: 1\r\na: 2\r\nb: x:y\r\n\r\n", {"a": "2", "b": "x:y"}),
        (b"NATS/1.0\r\nno colon\r\na b: c\r\n: d\r\n\xff: e\r\nf: \xff\r\n\r\n", {"f": "\N{REPLACEMENT CHARACTER}"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", {"Status": "409", "Description": "Consumer Deleted"}),
        (b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n", {"Status": "100", "Description": "Idle Heartbeat", "A": "b"}),
        (b"NATS/1.0 abc\r\n\r\n", {}),
        (b"NATS/1.0", {}),
        (b"x", {}),
        (b"", {}),
    ],
)  # fmt: skip
def test_headers(block: bytes, headers: dict[str, str]) -> None:
    assert Message("a", "", b"", block).headers == headers


@examples(200)
@given(st.binary(max_size=60), st.sampled_from([b"", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0\r\nNats-Msg-Id: "]))
def test_no_block_of_headers_raises(block: bytes, start: bytes) -> None:
    assert all(name.isascii() for name in read_headers(start + block))
