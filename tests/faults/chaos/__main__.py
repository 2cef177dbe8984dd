"""`python -m tests.faults.chaos --seeds 7`: chaos runs, a table of each, and exit code 1 if a promise did not hold."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.chaos.driver import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", help="which faults, and when; a run for each (one at random)")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="servers (1)")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many in each (20,000)")
    parser.add_argument("--directory", type=Path, help="where ledgers and logs are kept (a temporary one)")
    options = parser.parse_args()
    seeds = [random.randrange(1_000_000)] if options.seeds is None else options.seeds
    base = options.directory or Path(tempfile.mkdtemp(prefix="jetq-chaos-"))
    base.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=base / "producers.log", level=logging.INFO, format="%(asctime)s %(message)s")
    failed = [seed for seed in seeds if not _holds(seed, options.jobs, options.nodes, base / f"{seed}-{options.nodes}")]
    if failed:
        sys.exit(f"did not hold: seed {', '.join(map(str, failed))}; ledgers and logs: {base}")
    if options.directory is None:
        shutil.rmtree(base)


def _holds(seed: int, jobs: int, nodes: int, directory: Path) -> bool:
    report = asyncio.run(run(seed, jobs, directory, nodes=nodes))
    sys.stdout.write(f"{report.text()}\n\n")
    sys.stdout.flush()
    return report.verdict.holds


if __name__ == "__main__":
    main()
