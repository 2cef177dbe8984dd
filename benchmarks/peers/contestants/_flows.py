"""What the contestants of `python -m benchmarks.peers.flows` speak: a workflow, again and again.

    python flows_with_x.py work    --url U --slots 50               run a worker until it is told to end
    python flows_with_x.py create  --url U --shape chord --count N --size 10
                                                                    store N, wait for every value, print the rate

A chord is a join over `size` jobs, a chain is `size` jobs one after the other, each of which takes the value of the one
before. The worker processes are started beforehand. Every value is checked. Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

CALLERS = 10
"""Callers that store workflows at a time, each one after the other."""

Made = Callable[[int], Awaitable[Callable[[], Awaitable[int]]]]
"""Stores a workflow of that size, and returns what waits for its value."""

VALUES: Mapping[str, Callable[[int], int]] = {"chord": lambda size: sum(range(size)), "chain": lambda size: size - 1}
"""The value of each shape, by its size."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    command: str
    url: str
    shape: str
    count: int
    size: int
    slots: int


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["work", "create"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--shape", choices=VALUES, default="chord")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--slots", type=int, default=50)
    return Options(**vars(parser.parse_args()))


async def create(asked: Options, shapes: Mapping[str, Made]) -> None:
    """Store the workflows and print their rate. shapes: those that the contestant has."""
    made, expected = shapes[asked.shape], VALUES[asked.shape](asked.size)

    async def caller() -> None:
        values = [await made(asked.size) for _ in left]
        for value in values:
            found = await value()
            if found != expected:
                raise SystemExit(f"a {asked.shape} gave {found}")

    left = iter(range(asked.count))
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(min(CALLERS, asked.count))))
    print(json.dumps({"rate": asked.count / (time.perf_counter() - began)}), flush=True)
