"""How many examples a property is tried with: few and always the same ones, or many at random in the profile `soak`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["SOAK", "examples"]

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
_MORE = 50
_TOLERATED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def examples(count: int = 60, *, steps: int = 50) -> settings:
    """`count` examples, fifty times as many in the profile `soak`; `steps` rules at most in each of a machine."""
    return settings(
        max_examples=count * _MORE if SOAK else count,
        stateful_step_count=steps,
        derandomize=not SOAK,
        print_blob=SOAK,
        database=None,
        deadline=None,
        suppress_health_check=_TOLERATED,
    )
