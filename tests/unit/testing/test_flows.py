"""`jetq.testing.run`: a work that runs in memory, with steps that fail as the test says."""

from __future__ import annotations

import pytest

from jetq import (
    ArgumentError,
    DefinitionError,
    Jetq,
    JobExpired,
    JobNotFound,
    Reject,
    ResultTimeout,
    Snooze,
    TaskFailed,
    Work,
    WorkflowError,
    each,
    group,
)
from jetq.testing import Flow, run


class World:
    """An app with tasks for workflows."""

    def __init__(self) -> None:
        self.app = Jetq()
        self.told: list[str] = []
        self.down = 0

        @self.app.task(name="shop.fetch")
        async def fetch(url: str) -> int:
            return len(url)

        @self.app.task(name="shop.total", queue="sums")
        def total(counts: list[int], bonus: int = 0) -> int:
            return sum(counts) + bonus

        @self.app.task(name="shop.flaky", max_attempts=5, wait=3_600)
        async def flaky(n: int) -> int:
            if self.down:
                self.down -= 1
                raise OSError("down")
            return n

        @self.app.task(name="shop.tell")
        async def tell(text: str) -> None:
            self.told.append(text)

        @self.app.task(name="shop.patient")
        async def patient(n: int) -> int:
            raise Snooze(3_600)

        self.fetch, self.total, self.flaky, self.tell, self.patient = fetch, total, flaky, tell, patient

    def sums(self) -> Work[int]:
        return each(self.fetch, ["a", "bb", "ccc"]) | self.total

    def called_back(self) -> Work[int]:
        return (self.sums() | self.flaky).on_failure(self.tell.bind("failed")).finally_(self.tell.bind("over"))


@pytest.fixture
def world() -> World:
    return World()


def test_a_work_runs_to_its_value(world: World) -> None:
    flow = run(world.sums())
    assert flow.result() == 6
    assert flow.status == "succeeded"
    assert {name: (step.state, step.done, step.total) for name, step in flow.steps().items()} == {
        "fetch": ("succeeded", 3, 3),
        "total": ("succeeded", 1, 1),
    }


def test_it_tells_what_each_step_got_and_in_which_order(world: World) -> None:
    flow = run(world.called_back())
    assert flow.assert_ran("total", counts=[1, 2, 3]).arguments == {"counts": [1, 2, 3], "bonus": 0}
    assert [(each.step, each.index) for each in flow.ran("fetch")] == [("fetch", 0), ("fetch", 1), ("fetch", 2)]
    assert flow.assert_ran("fetch", url="bb").index == 1
    flow.assert_order("fetch", "total", "flaky", "tell-2")
    flow.assert_not_ran("tell")
    flow.assert_not_ran("fetch", url="d")
    assert (flow.waits_for("total"), flow.waits_for("fetch")) == ({"fetch"}, set())


def test_an_assertion_that_fails_says_what_has_run(world: World) -> None:
    flow = run(world.sums())
    with pytest.raises(AssertionError, match=r"no fetch\(url='d'\) has run; these have:\n  fetch\(url='a'\)\n"):
        flow.assert_ran("fetch", url="d")
    with pytest.raises(AssertionError, match=r"has run: total\(counts=\[1, 2, 3\], bonus=0\)"):
        flow.assert_not_ran("total")
    with pytest.raises(AssertionError, match="step fetch began before total had ended"):
        flow.assert_order("total", "fetch")
    with pytest.raises(WorkflowError, match="no step 'sum'"):
        flow.assert_ran("sum")
    with pytest.raises(ArgumentError, match="no parameter 'link'"):
        flow.assert_ran("fetch", link="d")


def test_a_step_dies_as_the_test_says_and_runs_when_it_is_retried(world: World) -> None:
    flow = run(world.called_back())
    flow.fail("flaky", OSError("disk full"))
    assert flow.status == "failed"
    assert sorted(world.told) == ["failed", "over"]
    with pytest.raises(TaskFailed, match=r"step flaky: builtins\.OSError: disk full"):
        flow.result()
    (failure,) = flow.steps()["flaky"].failures
    assert (failure.reason, failure.type, failure.message) == ("failed", "builtins.OSError", "disk full")
    flow.skip_time(days=3)
    flow.fail("flaky", OSError("again"))
    assert flow.retry() == 1
    assert (flow.status, [type(each.error) for each in flow.ran("flaky")]) == ("failed", [OSError, OSError])
    flow.skip_time(days=3)
    world.down = 1  # it has all of its attempts again
    assert flow.retry(step="flaky") == 1
    assert (flow.status, flow.result()) == ("running", 6)


def test_one_member_dies_and_the_others_run(world: World) -> None:
    flow = run(each(world.fetch, ["a", "bb", "ccc"]).settled())
    flow.fail("fetch", ValueError, index=1)
    first, failure, third = flow.result()
    assert (first, third) == (1, 3)
    assert not isinstance(failure, int)
    assert (failure.step, failure.index, failure.type) == ("fetch", 1, "builtins.ValueError")


def test_all_members_die(world: World) -> None:
    flow = run(each(world.fetch, ["a", "bb"]).settled())
    flow.fail("fetch", Reject("gone"))
    assert [type(each).__name__ for each in flow.result()] == ["Failure", "Failure"]
    assert flow.steps()["fetch"].failed == 2


def test_a_retry_waits_for_its_time(world: World) -> None:
    world.down = 2
    flow = run(world.flaky.bind(5))
    assert flow.status == "running"
    flow.skip_time(hours=1, minutes=1)
    assert (flow.status, world.down) == ("running", 0)
    flow.skip_time(hours=1)
    assert (flow.status, [each.attempt for each in flow.ran()]) == ("succeeded", [1, 2, 3])


def test_a_result_lets_time_pass_as_far_as_it_may(world: World) -> None:
    world.down = 2
    flow = run(world.flaky.bind(5), delay=86_400)
    with pytest.raises(ResultTimeout, match="does not end within 3600 s"):
        flow.result(3_600)
    assert flow.ran() == []
    assert flow.result() == 5


def test_past_its_deadline_a_workflow_expires(world: World) -> None:
    flow = run(world.patient.bind(1), expires=86_400)
    with pytest.raises(JobExpired):
        flow.result()
    assert flow.status == "expired"


def test_what_is_not_kept_any_more_is_not_found(world: World) -> None:
    flow = run(world.sums())
    assert flow.status == "succeeded"
    flow.skip_time(days=3)
    with pytest.raises(JobNotFound):
        flow.steps()


def test_a_workflow_is_cancelled(world: World) -> None:
    flow = run(world.patient.bind(1).finally_(world.tell.bind("over")), id="waits")
    assert (flow.id, flow.status, flow.cancel(), flow.status) == ("waits", "running", "cancelled", "cancelled")
    assert flow.cancel() == "cancelled"
    flow.skip_time(minutes=5)
    assert world.told == ["over"]


@pytest.mark.anyio
async def test_async_code_may_ask_too(world: World) -> None:
    assert run(group([world.fetch.bind("a"), world.fetch.bind("bb")])).result() == [1, 2]


def test_steps_that_are_none_are_refused(world: World) -> None:
    flow = run(world.sums() | world.patient)
    with pytest.raises(WorkflowError, match="no step 'summe'"):
        flow.fail("summe", ValueError())
    with pytest.raises(DefinitionError, match="ends its job"):
        flow.fail("total", Snooze(3))
    assert flow.status == "running"
    for step in ("total", "patient"):
        with pytest.raises(WorkflowError, match=f"step {step} of the flow has begun"):
            flow.fail(step, ValueError())


def test_what_is_no_work_and_no_option_is_refused_at_once(world: World) -> None:
    with pytest.raises(WorkflowError):
        run("fetch")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="no option 'retries'"):
        run(world.sums(), retries=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="backwards"):
        run(world.sums()).skip_time(days=-1)


def test_the_app_is_as_it_was_before(world: World) -> None:
    client, middleware = world.app.client, world.app.middleware
    flow: Flow[int] = run(world.sums())
    assert flow.result() == 6
    assert (world.app.client, world.app.middleware) == (client, middleware)
