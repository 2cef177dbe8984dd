"""How the parameters of a task may be called."""

from __future__ import annotations

from typing import Any

import pytest

from jetq import Jetq, task
from jetq.encoding.signature import Signature
from jetq.errors import DefinitionError
from jetq.testing import in_memory
from tests.apps.fresh import own_tasks


@pytest.fixture(autouse=True)
def no_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own_tasks(monkeypatch)


@pytest.mark.parametrize("name", ["__x", "__init__"])
def test_names_that_mean_something_in_a_class_are_refused(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def fn({name}): ...", namespace)
    with pytest.raises(DefinitionError, match=rf"fn: {name}: the name of a task's parameter does not begin with two"):
        Signature(namespace["fn"], "fn")


@pytest.mark.parametrize("name", ["self", "cls", "args", "kwargs", "task", "fn", "value", "name", "queue", "_", "___"])
def test_any_other_name_is_a_parameters(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def fn({name}, *, _x=1): return {name}", namespace)
    made: Any = task(name="named")(namespace["fn"])
    with in_memory(Jetq()) as tester:
        job = made.delay(**{name: 7})
        assert tester.run_until_empty().succeeded == 1
        assert job.result(timeout=1) == 7
    assert made(**{name: 7}) == 7
