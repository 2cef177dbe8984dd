"""A machine that was suspended: its clocks differ from then on, and a lease goes on by one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OF_LEASES = [
    "worker/test_handover.py",
    "worker/test_lapsed_leases.py",
    "worker/test_limits.py",
    "attempts/test_lost_attempts.py",
    "worker/test_leases.py",
]
"""Tests of what counts spans that must not be cut short: that somebody has a job, or a slot."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="its clock goes on in its sleep")
def test_leases_are_the_same_on_a_machine_that_was_suspended() -> None:
    """Guarantee: no two clocks are compared: what has a lease runs once, as everywhere."""
    files = [str(ROOT / "tests/integration" / name) for name in OF_LEASES]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.apps.suspended", *files]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5_000:]
