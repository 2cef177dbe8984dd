"""`python -m tests.faults.soak --hours 8`: an even load under watch, then one chaos run after another until time is up.

Exit code 1 if a promise did not hold; the ledgers and logs of such runs are kept, and their seeds named.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import steady
from tests.faults.chaos.driver import run as run_chaos

_STEADY_SHARE = 0.25
"""Of the time; the rest belongs to chaos."""

_JOBS_A_SECOND = 150.0
"""Of a chaos run, its quiet end included: about as many as one gets through."""

_LONGEST_RUN = 180.0
_SHORTEST_RUN = 40.0


@dataclass
class Soak:
    """How long, from which seed on, and what came of it. `directory` keeps what failed."""

    seconds: float
    seed: int
    directory: Path
    ends: float = 0.0
    runs: int = 0
    jobs: int = 0
    failed: list[str] = field(default_factory=list)

    def work(self) -> None:
        """All of it. Nothing of a run that held is kept."""
        self.ends = time.monotonic() + self.seconds
        self._steady()
        for seed, nodes in zip(itertools.count(self.seed), itertools.cycle((1, 3)), strict=False):
            left = self.ends - time.monotonic()
            if left < _SHORTEST_RUN and self.runs > 1:
                return
            self._chaos(seed, nodes, int(_JOBS_A_SECOND * max(_SHORTEST_RUN, min(left / 2, _LONGEST_RUN)) / 1.5))

    def summary(self) -> str:
        """For people."""
        held = self.runs - len(self.failed)
        text = f"{self.runs} runs from seed {self.seed} on, {self.jobs:,} jobs: {held} held"
        return "\n".join([text, *(f"did not hold: {each}" for each in self.failed)])

    def _steady(self) -> None:
        directory = self.directory / "steady"
        seen = asyncio.run(steady.run(self.seconds * _STEADY_SHARE, directory, self.seed))
        self._note(seen.table(), seen.jobs, "the steady load" if seen.faults else "", directory)

    def _chaos(self, seed: int, nodes: int, jobs: int) -> None:
        directory = self.directory / f"{seed}-{nodes}"
        try:
            report = asyncio.run(run_chaos(seed, jobs, directory, nodes=nodes))
            text, holds = report.text(), report.verdict.holds
        except Exception as error:  # the next seed may tell more
            logging.exception("seed %d, %d nodes", seed, nodes)
            text, holds = f"seed {seed}, nodes {nodes}: {type(error).__name__}: {error}", False
        again = f"python -m tests.faults.chaos --seeds {seed} --nodes {nodes} --jobs {jobs}"
        self._note(text, jobs, "" if holds else again, directory)

    def _note(self, text: str, jobs: int, failed: str, directory: Path) -> None:
        self.runs += 1
        self.jobs += jobs
        sys.stdout.write(f"{text}\n\n")
        sys.stdout.flush()
        if failed:
            self.failed.append(f"{failed}  ({directory})")
        else:
            shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0, help="how long")
    parser.add_argument("--minutes", type=float, default=0.0, help="and so much longer; for a try, 3 alone")
    parser.add_argument("--seed", type=int, help="of the first run; each next one has the next (at random)")
    parser.add_argument(
        "--directory", type=Path, help="where ledgers and logs of what failed are kept (a temporary one)"
    )
    options = parser.parse_args()
    seconds = options.hours * 3600.0 + options.minutes * 60.0
    if seconds <= 0:
        parser.error("say how long: --hours or --minutes")
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    directory = options.directory or Path(tempfile.mkdtemp(prefix="jetq-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=directory / "producers.log", level=logging.INFO, format="%(asctime)s %(message)s")
    sys.stdout.write(f"{seconds / 3600:.2f} h from seed {seed} on; {directory}\n\n")
    sys.stdout.flush()
    soak = Soak(seconds, seed, directory)
    soak.work()
    sys.stdout.write(f"{soak.summary()}\n")
    if soak.failed:
        sys.exit(1)
    if options.directory is None:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
