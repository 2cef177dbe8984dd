"""How much the tests of faults do."""

from __future__ import annotations

import os

__all__ = ["SWEEPS_ALL"]

SWEEPS_ALL = os.environ.get("JETQ_TEST_SWEEP") == "all"
"""Whether all is tried, in full. That takes many times as long, and shows the same but for what is rare."""
