"""Which steps are named by arguments that do not fit."""

from __future__ import annotations

import pytest

from jetq.model.workflows.plan import Edge, Step
from jetq.operations.workflows.values import sources_of

STEP = Step(
    edges=(
        Edge("a", into=(("numbers", 0),)),
        Edge("b", into=(("numbers", 1), ("more", "x"))),
        Edge("c", by="items", into=(("n",),)),
        Edge("d"),
    )
)


@pytest.mark.parametrize(
    ("problem", "clause"),
    [
        ("f(numbers: list[int]): numbers[1]: expected", "; numbers takes the value of step b"),
        ("f(numbers: list[int]): numbers[10]: expected", "; numbers takes the value of step a and the value of step b"),
        ("f(numbers: list[int]): numbers: expected", "; numbers takes the value of step a and the value of step b"),
        ("f(more: dict): more.x: expected", "; more takes the value of step b"),
        ("f(n: int, number: int): n: expected", "; n takes an item of the value of step c"),
        (
            "f: ValueError: too many",
            "; its arguments take the value of step a and the value of step b and an item of the value of step c",
        ),
    ],
)
def test_the_clause_names_the_steps_of_the_parameter_that_is_meant(problem: str, clause: str) -> None:
    assert sources_of(STEP, problem) == clause


def test_a_step_that_takes_no_values_is_not_blamed_on_others() -> None:
    assert sources_of(Step(edges=(Edge("d"),)), "f(n: int): n: expected") == ""
