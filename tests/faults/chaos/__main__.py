"""`python -m tests.faults.chaos --seed 7`: one chaos run, its table, and exit code 1 if a promise did not hold."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.chaos.driver import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="which faults, and when (random)")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many (20,000)")
    parser.add_argument("--directory", type=Path, help="where ledger and logs are kept (a temporary one)")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="jetq-chaos-"))
    report = asyncio.run(run(options.seed, options.jobs, directory))
    sys.stdout.write(f"{report.text()}\nledger and logs: {directory}\n")
    sys.exit(not report.verdict.holds)


if __name__ == "__main__":
    main()
