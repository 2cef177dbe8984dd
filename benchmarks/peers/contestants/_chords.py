"""What the contestants of `python -m benchmarks.peers.chords` speak: a join over several jobs, again and again.

    python chords_with_x.py work    --url U --slots 50              run a worker until it is told to end
    python chords_with_x.py create  --url U --count N --size 10     store N chords, wait for every value, print the rate

The worker processes are started beforehand. Every value is checked. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

CALLERS = 10
"""Callers that store chords at a time, each one after the other."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    command: str
    url: str
    count: int
    size: int
    slots: int


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["work", "create"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--slots", type=int, default=50)
    return Options(**vars(parser.parse_args()))


async def create(asked: Options, chord: Callable[[int], Awaitable[Callable[[], Awaitable[int]]]]) -> None:
    """Store the chords and print their rate. chord: stores one of that size, and returns what waits for its value."""

    async def caller() -> None:
        values = [await chord(asked.size) for _ in left]
        for value in values:
            found = await value()
            if found != sum(range(asked.size)):
                raise SystemExit(f"a chord gave {found}")

    left = iter(range(asked.count))
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(min(CALLERS, asked.count))))
    print(json.dumps({"rate": asked.count / (time.perf_counter() - began)}), flush=True)
