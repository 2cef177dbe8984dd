"""Messages that no client library writes, stored in the queue under way of a chaos run."""

from __future__ import annotations

import asyncio
import itertools

from tests.faults.chaos.checker import Attempt, Outcome
from tests.faults.chaos.scene import QUEUE, Scene

__all__ = ["HOSTILE", "plant"]

HOSTILE = "hostile"
"""The task that goes by in the ledger for what cannot run, and must be in the dead letters."""

_TASK = "tests.apps.chaos_tasks.quick"
_GOOD = b'{"n":%d}'
_FRAMES: list[tuple[bytes, bytes, bool]] = [
    # header block, body, whether it is a job all the same
    (b"NATS/1.0", _GOOD, True),
    (b"NATS/1.0\r\n", _GOOD, True),
    (b"x", _GOOD, True),
    (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", _GOOD, True),
    (b"NATS/1.0\r\nStatus: 404\r\n\r\n", _GOOD, True),
    (b"NATS/1.0\r\nStatus: nonsense\r\nDescription: \xff\xfe\r\n\r\n", _GOOD, True),
    (b"NATS/1.0\r\nNats-Schedule-Next: purge\r\n\r\n", _GOOD, True),
    (b"NATS/1.0\r\nJetq: {\r\n\r\n", _GOOD, False),
    (b"NATS/1.0\r\nJetq: " + b"[" * 20_000 + b"\r\n\r\n", _GOOD, False),
    (b"", b'{"n":%d', False),
    (b"", b"[" * 50_000 + b"%d", False),
    (b"", b'\xff\xfe"%d"', False),
    (b"", b'{"n":"%d","m":1e999}', False),
    (b"", b"", False),
]
_FIRST = 1_000_000
"""Numbers of hostile jobs begin here."""

_numbers = itertools.count(_FIRST)


async def plant(scene: Scene) -> None:
    """Store each of them once, in any order, past every client library."""
    frames = _FRAMES.copy()
    scene.random.shuffle(frames)
    for block, body, runs in frames:
        n = next(_numbers)
        filled = body % n if b"%d" in body else body
        outcome = await _store(scene.nodes[0].port, f"hostile-{n}", block, filled)
        scene.attempts.append(Attempt(f"hostile-{n}", n, _TASK if runs else HOSTILE, outcome))


async def _store(port: int, id: str, block: bytes, body: bytes) -> Outcome:
    """Write one message and wait for the server's word that it is stored."""
    subject = f"jetq.{QUEUE}.run.{_TASK.replace('.', ':')}.-.{id}".encode()
    inbox = f"_INBOX.{id}".encode()
    try:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB ' + inbox + b" 1\r\n")
            if block:
                lengths = b"%d %d" % (len(block), len(block) + len(body))
                writer.write(b"HPUB %s %s %s\r\n%s%s\r\n" % (subject, inbox, lengths, block, body))
            else:
                writer.write(b"PUB %s %s %d\r\n%s\r\n" % (subject, inbox, len(body), body))
            said = b""
            while b'"seq"' not in said and b'"error"' not in said and b"503" not in said:
                said += (chunk := await reader.read(4096))
                if not chunk:
                    return "unknown"
            writer.close()
    except (OSError, TimeoutError):
        return "unknown"
    return "stored" if b'"seq"' in said and b'"error"' not in said else "rejected"
