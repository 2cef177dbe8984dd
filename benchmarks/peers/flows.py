"""Workflows of jetq beside those of others on Redis, interleaved: `python -m benchmarks.peers.flows`.

A chord is a join over ten jobs that return their number; a chain is ten jobs, each of which adds one to the value of
the one before. Each contestant has the same worker processes with the same slots, and a fresh server in every turn. The
callers wait for every value.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import environment
from benchmarks.peers import environments, servers
from benchmarks.peers.roster import ROSTER, Contestant
from benchmarks.peers.turns import PROGRAMS

CACHE = Path(__file__).parents[2] / ".bench-venvs"
SHAPES = {"chord": ("jetq", "celery"), "chain": ("jetq", "celery", "streaq")}
"""Who has a workflow of each shape."""

NAMES = SHAPES["chain"]
WITHIN = 600.0
"""Seconds for all workflows of a turn."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.flows", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="workflows in a turn (500)")
    parser.add_argument("--size", type=int, default=10, help="jobs that a chord joins, and of a chain (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all contestants (3)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of each (2)")
    parser.add_argument("--slots", type=int, default=50, help="jobs at a time in each process (50)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="these alone")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="these alone")
    parser.add_argument("--venvs", type=Path, default=CACHE, help="where the peers are installed (.bench-venvs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, and the versions")
    asked = parser.parse_args()
    here = servers.find(asked.venvs)
    chosen = [one for one in ROSTER if one.name in asked.only]
    pythons = {one: environments.interpreter(asked.venvs, one.program, one.packages) for one in chosen}
    rates = {shape: {one.name: list[float]() for one in chosen if one.name in SHAPES[shape]} for shape in asked.shapes}
    for number in range(asked.rounds):
        for shape, found in rates.items():
            for one in chosen[number % len(chosen) :] + chosen[: number % len(chosen)]:
                if one.name in found:
                    found[one.name].append(turn(one, shape, pythons[one], here, asked))
                    print(f"round {number + 1}: {one.name:8} {found[one.name][-1]:8.1f} {shape}s/s", flush=True)
    for shape, found in rates.items():
        report(shape, found)
    if asked.json:
        told = {
            "environment": environment(uvloop=False) | {"servers": here.versions()},
            "case": {each: getattr(asked, each) for each in ("count", "size", "processes", "slots")},
            "versions": {one.name: environments.versions(pythons[one], one.shown) for one in chosen},
            "rates": rates,
        }
        asked.json.write_text(json.dumps(told, indent=2) + "\n")


def turn(one: Contestant, shape: str, python: Path, here: servers.Servers, asked: argparse.Namespace) -> float:
    """Return the workflows a second of one contestant, over workers that are up."""
    program = str(PROGRAMS / f"flows_{one.program}.py")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        with here.started(one.server, Path(directory) / "server") as url, (Path(directory) / "log").open("w") as log:
            common = ["--url", url, "--shape", shape, "--size", str(asked.size)]
            workers = [
                subprocess.Popen(
                    [python, program, "work", *common, "--slots", str(asked.slots)], stdout=log, stderr=log
                )
                for _ in range(asked.processes)
            ]
            try:
                _created([str(python), program, "create", *common, "--count", "20"])  # the workers are up
                return _created([str(python), program, "create", *common, "--count", str(asked.count)])
            finally:
                for worker in workers:
                    worker.terminate()
                for worker in workers:
                    _end(worker)


def _created(command: Sequence[str]) -> float:
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=WITHIN, check=True).stdout
    rate: float = json.loads(said.splitlines()[-1])["rate"]
    return rate


def _end(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(10.0)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def report(shape: str, rates: dict[str, list[float]]) -> None:
    """Print the medians, and how many times as fast jetq is in the median of the rounds."""
    ours = rates.get("jetq", [])
    for name, found in rates.items():
        times = [mine / theirs for mine, theirs in zip(ours, found, strict=False)]
        ratio = f"  jetq is {statistics.median(times):.1f} x" if times and name != "jetq" else ""
        print(f"{name:8} {statistics.median(found):8.1f} {shape}s/s{ratio}")


if __name__ == "__main__":
    main()
