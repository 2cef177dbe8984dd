"""Messages at random that no client library writes: subjects, header blocks and bodies, good, damaged and made up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FIRED", "Frame", "Frames"]

FIRED = "fired"
"""The id of what the server makes of a frame that is a schedule."""

_NASTY = [
    "*", ">", "$", "$JS", "-", "--", "~", "a~b", ":", "a:b", "=", "\x00", "\x0b", "\x0c", "\x85", "\xa0", "\u2028",
    "\ufeff", "%s", "..", "é", "\N{SNOWMAN}", "\N{PILE OF POO}", "\\", "\\xff", '"', "'", "run", "tick", "later",
    "x" * 64, "y" * 300,
]  # fmt: skip
_WORDS = ["good", "loose", "limited", "unknown", "run", "tick", "t", "f", "id", "-", "key", "0", "9" * 30]
_NATS_NAMES = [
    "Nats-Msg-Id", "Nats-Expected-Stream", "Nats-Expected-Last-Sequence", "Nats-Expected-Last-Msg-Id",
    "Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Subject-Sequence-Subject", "Nats-Rollup", "Nats-TTL",
    "Nats-Marker-Reason", "Nats-Incr", "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit", "Nats-Schedule",
    "Nats-Schedule-Target", "Nats-Schedule-TTL", "Nats-Schedule-Next", "Nats-Schedule-Time-Zone", "Nats-Scheduler",
    "Nats-Schedule-Rollup", "Nats-Stream", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Subject", "Nats-Last-Sequence",
    "Nats-Num-Pending", "Nats-UpTo-Sequence", "Nats-Pending-Messages", "Nats-Pending-Bytes", "Nats-Required-Api-Level",
    "Nats-Last-Consumer", "Nats-Consumer-Stalled", "Nats-Stream-Source", "Nats-Service-Error-Code",
]  # fmt: skip
_VALUES = [
    b"", b"0", b"1", b"-1", b"9" * 25, b"abc", b"sub", b"1h", b"never", b"purge", b"true", b"\xff\xfe", b"@at nonsense",
    b"@at 2020-01-01T00:00:00Z", b"@at 2999-01-01T00:00:00Z", b"@every 1h", b"2020-01-01T00:00:00Z",
    b"2020-13-45T99:99:99.123456789123Z", b"0000-01-01T00:00:00Z", b"9999-12-31T23:59:59.999999999-23:59",
]  # fmt: skip
_OTHER_NAMES = [
    b"Status", b"Description", b"status", b"Jetq", b"jetq", b"JETQ", b"Jetq-Replaces", b"Jetq-Schedule", b"Jetq-Letter",
    b"traceparent", b"", b" ", b"\xff", b"X\x00Y", b"Content-Type", b"x" * 500,
]  # fmt: skip
_META: dict[str, Callable[[random.Random], object]] = {
    "v": lambda r: r.choice([1, 1, 1, 0, 2, 3, -1]),
    "attempt": lambda r: r.choice([1, 2, 3, 7, 2**31 - 1]),
    "enqueued": lambda r: r.choice([0.0, 1.7e9, 2e11]),
    "max_attempts": lambda r: r.choice([1, 3, None]),
    "timeout": lambda r: r.choice([60, 8e9, None]),
    "result_ttl": lambda r: r.choice([0, 0.001, 1, 60, 8e9, None]),
    "errors": lambda r: [{"attempt": 1, "type": "T", "message": "m" * r.choice([0, 10, 2000]), "at": 1.0}],
    "errors_dropped": lambda r: r.choice([0, 5, 2**31 - 1]),
    "snoozes": lambda r: r.choice([0, 1, 2**31 - 1]),
    "replays": lambda r: r.choice([0, 1, 2**31 - 1]),
    "unknown_since": lambda r: r.choice([0.0, 1.0, 2e11]),
    "expires": lambda r: r.choice([0.0, 1.0, 4e9, 2.4e11, None]),
    "crashes": lambda r: r.choice([0, 1, 100]),
    "schedule": lambda r: r.choice(["s", "", "a b", "\u2028", "x" * 1000]),
    "nominal": lambda r: r.choice([0.0, 1.7e9, 2e11]),
    "in_line": lambda r: r.choice([0.0, 1.7e9, 2e11]),
    "unique": lambda r: r.choice(["running", None, "never"]),
    "flow": lambda r: _place(r)[: r.choice([11, 11, 11, 10, 5])],
    "unheard_of": lambda r: 1,
}


def _place(r: random.Random) -> list[object]:
    """The `flow` of a job; good ones too, as what is at random in each entry would hardly ever be."""
    good: list[object] = ["w", "default", "l", "s", 7, 1, 1, 4e9, 2**63, 1.7e9, False]
    bad: list[object] = [*_NASTY, -1, 2**31, 2**64, 1e300, None]
    return [r.choice(bad) if r.random() < 0.1 else entry for entry in good]


_RECORD = {"name": "t", "queue": "default", "task": "good", "pattern": "* * * * * *"}


@dataclass(frozen=True)
class Frame:
    """One message: its subject, its header block or None, and its body."""

    subject: bytes
    block: bytes | None
    body: bytes


class Frames:
    """Frames into one queue, from a seed. No two that are well formed have the same id."""

    def __init__(self, seed: int, namespace: str, queue: str = "default") -> None:
        self.random = random.Random(seed)
        self._prefix = f"{namespace}.{queue}.".encode()
        self._count = 0

    def next(self) -> Frame:
        """Another one."""
        self._count += 1
        chance = self.random
        task = chance.choices(["good", "loose", "limited", "unknown"], weights=[12, 4, 3, 1])[0]
        subject = self._subject(task)
        make = chance.choices([self._no_block, self._valid, self._mixed, self._damaged, self._made_up], [4, 4, 5, 3, 2])
        return Frame(self._prefix + subject, make[0](), self._body(task))

    # --- subjects

    def _subject(self, task: str) -> bytes:
        chance, id = self.random, f"f{self._count}"
        kind = chance.choices(["good", "keyed", "tick", "tokens", "damaged"], weights=[12, 3, 2, 3, 2])[0]
        if kind == "keyed":
            key = chance.choice(["k", "=0123456789abcdef", "a:b"])
            return f"run.{task}.{key}.{id}~{key}".encode()
        if kind == "tick":
            return f"tick.{chance.choice(['t', 'none', id, *_NASTY])}".encode()
        if kind == "tokens":
            tokens = chance.choices([*_NASTY, *_WORDS, id], k=chance.randrange(1, 9))
            return f"{chance.choice(['run', 'tick'])}.{'.'.join(tokens)}".encode()
        subject = f"run.{task}.-.{id}".encode()
        return subject if kind == "good" else b"run." + self._spoilt(subject[4:], without=b" \t\r\n")

    # --- header blocks

    def _no_block(self) -> None:
        return None

    def _valid(self) -> bytes:
        return _block([(b"Jetq", self._meta())])

    def _mixed(self) -> bytes:
        """Lines of all sorts, some of them twice."""
        lines = [self._line() for _ in range(self.random.randrange(1, 6))]
        if self.random.random() < 0.3:
            lines.append(self.random.choice(lines))
        return _block(lines)

    def _damaged(self) -> bytes:
        block = _block([(b"Jetq", self._meta()), self._line()])
        if self.random.random() < 0.5:
            return block[: self.random.randrange(1, len(block))]
        return self._spoilt(block)

    def _made_up(self) -> bytes:
        chance = self.random
        return chance.choice(
            [
                b"NATS/1.0",
                b"NATS/1.0\r\n",
                b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
                b"NATS/1.0 409 Consumer Deleted\r\nNats-Pending-Messages: x\r\n\r\n",
                b"NATS/1.0 503\r\n\r\n",
                b"\r\n\r\n",
                chance.randbytes(chance.randrange(1, 200)),
                _block([(b"Jetq", b"[" * chance.randrange(1, 60_000))]),
                _block([(b"X", b"x" * chance.randrange(1, 64_000))]),
                _block([(b"X%d" % each, b"y") for each in range(chance.randrange(1, 3000))]),
            ]
        )

    def _line(self) -> tuple[bytes, bytes]:
        chance = self.random
        name = chance.choice([chance.choice(_NATS_NAMES).encode(), chance.choice(_OTHER_NAMES)])
        if name == b"Nats-Batch-Id":
            return name, b"b%d" % self._count
        if name == b"Nats-Schedule-Target":
            return name, self._prefix + b"run.good.-." + FIRED.encode()
        if name in (b"Jetq", b"Jetq-Letter"):
            return name, self._spoilt(self._meta(), without=b"\r\n")
        if name == b"Jetq-Schedule":
            return name, self._spoilt(json.dumps(_RECORD).encode(), without=b"\r\n")
        return name, chance.choice(_VALUES)

    def _meta(self) -> bytes:
        chance = self.random
        fields = chance.sample(list(_META), chance.randrange(0, 4))
        return json.dumps({name: _META[name](chance) for name in fields}).encode()

    # --- bodies

    def _body(self, task: str) -> bytes:
        chance = self.random
        value = chance.choice([1, "x", [1], {"a": None}, 1.5, "\ud800", True])
        good = json.dumps({"v": value} if task == "loose" else {"n": self._count}).encode()
        kind = chance.choices(["good", "damaged", "bytes", "deep", "large"], weights=[12, 6, 4, 1, 0.2])[0]
        match kind:
            case "damaged":
                return self._spoilt(good)
            case "bytes":
                return chance.randbytes(chance.choice([0, 1, 5, 100, 5000]))
            case "deep":
                return b'{"v":' + b"[" * chance.choice([400, 600, 100_000])
            case "large":  # up to the last byte that the server takes, where no header is left room for
                return bytes(1024 * 1024 - chance.choice([0, 1, 300, 2000, 30_000]))
        return good

    # --- damage

    def _spoilt(self, data: bytes, *, without: bytes = b"") -> bytes:
        """Some bytes changed, left out, doubled or put in."""
        chance, spoilt = self.random, bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(len(spoilt) + 1)
            match chance.randrange(4):
                case 0:
                    spoilt[at : at + 1] = chance.randbytes(1)
                case 1:
                    del spoilt[at : at + chance.choice([1, 1, 4])]
                case 2:
                    spoilt[at:at] = spoilt[max(0, at - 3) : at]
                case _:
                    spoilt[at:at] = chance.randbytes(chance.choice([1, 3]))
        return bytes(byte for byte in spoilt if byte not in without)


def _block(lines: list[tuple[bytes, bytes]]) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
