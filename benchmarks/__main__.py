"""jetq beside a bare nats-py program, case by case, interleaved over rounds: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import draining, enqueueing, growth, latency, processes
from benchmarks.case import Case, Run
from benchmarks.charts import draw
from benchmarks.ground import Site
from benchmarks.machine import environment
from benchmarks.report import describe, table
from benchmarks.results import Results

CASES: tuple[Case, ...] = (
    *enqueueing.CASES,
    *draining.CASES,
    *latency.CASES,
    *processes.CASES,
    *growth.CASES,
)
WARM_UP = ("adelay-100", "adelay-many", "drain-noop")

QUICK_SCALE, QUICK_ROUNDS = 0.05, 2


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="rounds of all cases (5); the long ones run once")
    parser.add_argument("--only", nargs="+", choices=names, metavar="CASE", help=f"of {', '.join(names)}")
    parser.add_argument("--long", action="store_true", help="also the cases that take minutes")
    parser.add_argument("--quick", action="store_true", help="small counts and two rounds: whether it works")
    parser.add_argument("--scale", type=float, help="counts in proportion to the usual ones (1)")
    parser.add_argument("--uvloop", action="store_true", help="all event loops are uvloop's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and environment")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw SVG charts")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else 5)
    options.scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
    return options


def chosen(options: argparse.Namespace) -> list[Case]:
    """The cases to run: those named, or all but the long ones unless they are asked for."""
    if options.only:
        return [case for case in CASES if case.name in options.only]
    return [case for case in CASES if options.long or not case.long]


async def measure(site: Site, cases: Sequence[Case], rounds: int, scale: float) -> Results:
    """All cases in turn, `rounds` times. Who goes first alternates."""
    results = Results(cases)
    await _warm_up(site, scale)
    rounds = 1 if all(case.long for case in cases) else rounds
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}\n")
        for case in cases:
            if case.name in results.failures or (case.long and number):
                continue
            try:
                for side, run in case.sides(reverse=number % 2 == 1):
                    results.add(case, side, await _side(site, run, case.scaled(scale)))
                    _show(f"{case.name}, {side}")
            except AssertionError as error:
                results.failures[case.name] = str(error)
    _show("")
    return results


async def _warm_up(site: Site, scale: float) -> None:
    """Code, allocator and disk have done it once before it counts."""
    for case in CASES:
        if case.name in WARM_UP:
            for _, run in case.sides(reverse=False):
                await _side(site, run, case.scaled(scale / 4))


async def _side(site: Site, run: Run, count: int) -> dict[str, float]:
    """One side of one round, on a server of its own, with its ledger checked."""
    gc.collect()
    async with site.ground() as ground:
        return dict(await run(ground, count))


def _say(progress: str) -> None:
    print(progress, end="", file=sys.stderr, flush=True)


def _show(progress: str) -> None:
    """For a moment, to who looks."""
    if sys.stderr.isatty():
        _say(f"\r\x1b[K{progress}")


def _loop_factory(uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop]:
    if not uvloop:
        return asyncio.new_event_loop
    import uvloop as loops

    return loops.new_event_loop


def main() -> int:
    options = parsed()
    logging.getLogger("jetq").setLevel(logging.ERROR)  # a line for each retry is no part of the figures
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=_loop_factory(options.uvloop)) as loop:
        site = Site(Path(directory), uvloop=options.uvloop)
        results = loop.run(measure(site, chosen(options), options.rounds, options.scale))
    found = environment(uvloop=options.uvloop)
    print(table(results))
    print(describe(found))
    for name, failure in results.failures.items():
        print(f"error: {name}: {failure}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results.document(found, options.scale), indent=2) + "\n", encoding="utf-8")
    if options.charts:
        draw(results, options.charts)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
