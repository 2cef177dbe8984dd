"""What a soak counts as growth, and which faults the matrix shows."""

from __future__ import annotations

from tests.faults.matrix import rows
from tests.faults.steady import MOST_FILES, MOST_GROWTH, Sample, Steady, growth


def samples(*memory: float, files: int = 10) -> list[Sample]:
    return [Sample(float(place), each, files) for place, each in enumerate(memory)]


def test_the_last_quarter_is_held_against_the_second() -> None:
    assert growth(samples(1, 2, 30, 31, 40, 41, 50, 51)) == (20.0, 0.0)
    assert growth(samples(1, 2, 30)) == (0.0, 0.0)
    assert growth(samples(1, 30, 900, 30)) == (0.0, 0.0)  # neither a warm-up nor a peak is growth


def test_growth_beyond_the_bound_and_unfinished_jobs_are_faults() -> None:
    seen = Steady(8.0, jobs=5)
    seen.samples = {"worker": samples(0, 10, 10, 10 + MOST_GROWTH["worker"]), "server": samples(1, 1, 1, 1)}
    assert seen.faults == []
    seen.unfinished = 2
    seen.samples["worker"] = samples(0, 10, 10, 11 + MOST_GROWTH["worker"])
    seen.samples["server"][-1] = Sample(3.0, 1.0, 11 + MOST_FILES)
    assert len(seen.faults) == 3
    assert all(fault in seen.table() for fault in seen.faults)


def test_every_fault_has_a_test_or_a_limit() -> None:
    found = list(rows())
    assert len(found) > 70
    assert [row.fault for row in found if not row.tests and not row.limit] == []
