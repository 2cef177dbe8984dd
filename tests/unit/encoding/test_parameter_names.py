"""How the parameters of a task may be called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jetq import Jetq, task
from jetq.client.registry import IMPORTED
from jetq.encoding.signature import Signature
from jetq.errors import DefinitionError
from jetq.testing import in_memory


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(IMPORTED, "_tasks", {})
    yield


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
