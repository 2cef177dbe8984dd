"""jetq beside its peers, interleaved in one run: `python -m benchmarks.peers`. See README.md here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.peers import environments, servers
from benchmarks.peers.chart import chart
from benchmarks.peers.report import Results, markdown, table
from benchmarks.peers.roster import ROSTER, Contestant
from benchmarks.peers.turns import Size, turn

CACHE = Path(__file__).parents[2] / ".bench-venvs"


def main() -> None:
    options = arguments()
    size = Size(options.count, options.callers, options.slots, options.threads, options.latencies)
    here = servers.find(options.venvs)
    chosen = [one for one in ROSTER if one.name in options.only]
    results = Results(environment(here, size, options.rounds))
    ready = installed(chosen, options.venvs, results)
    for number in range(options.rounds):
        # Another one first in each round: nobody always comes after the same neighbour's load.
        for contestant in rotated(ready, number):
            say(f"round {number + 1} of {options.rounds}: {contestant.name}")
            play(contestant, ready[contestant], here, size, results)
    write(results, options)


def arguments() -> argparse.Namespace:
    names = [one.name for one in ROSTER]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="jobs per case (10,000); a fifth of it one by one")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all contestants (5)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--callers", type=int, default=100, help="callers at a time (100)")
    parser.add_argument("--slots", type=int, default=100, help="coroutines at a time in a worker (100)")
    parser.add_argument("--threads", type=int, default=10, help="threads in a worker (10)")
    parser.add_argument("--latencies", type=int, default=100, help="jobs for the idle latency of a round (100)")
    parser.add_argument("--venvs", type=Path, default=CACHE, help="where the peers are installed (.bench-venvs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, and the versions")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the medians as a table")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write the rates as SVG bars")
    return parser.parse_args()


def environment(here: servers.Servers, size: Size, rounds: int) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "servers": here.versions(),
        "jobs": f"{size.count:,} per case, {size.single:,} one by one",
        "rounds": str(rounds),
        "slots": f"{size.slots} coroutines, {size.threads} threads",
    }


def installed(chosen: Sequence[Contestant], cache: Path, results: Results) -> dict[Contestant, Path]:
    """The interpreter of each contestant; those that have none are reported."""
    ready: dict[Contestant, Path] = {}
    for contestant in chosen:
        say(f"environment of {contestant.name}")
        try:
            python = environments.interpreter(cache, contestant.program, contestant.packages)
        except environments.NotInstalled as error:
            results.problem(contestant.name, f"cannot be installed: {error}")
            continue
        results.versions[contestant.name] = environments.versions(python, contestant.shown)
        ready[contestant] = python
    return ready


def rotated(ready: dict[Contestant, Path], by: int) -> list[Contestant]:
    """All of them, from another one on."""
    order = list(ready)
    by = by % len(order) if order else 0
    return order[by:] + order[:by]


def play(contestant: Contestant, python: Path, here: servers.Servers, size: Size, results: Results) -> None:
    """One turn; what goes wrong is reported, and the others go on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        try:
            for measure in turn(contestant, python, here, Path(directory), size):
                results.note(contestant.name, measure)
        except servers.NoServer as error:
            results.problem(contestant.name, str(error))


def write(results: Results, options: argparse.Namespace) -> None:
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(results))
    if options.chart:
        options.chart.write_text(chart(results))


def say(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
