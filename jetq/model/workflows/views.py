"""What is shown of a workflow: what became of its steps, and the handle that its jobs see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from jetq.model.definitions.keywords import Seconds
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.records import StepState, WorkflowState

__all__ = ["HasWorkflows", "StepView", "WorkflowHandle"]


class StepView(Struct, frozen=True):
    """What became of a step."""

    name: str
    """The name of the step."""

    state: StepState
    """waiting: no member may begin yet. failed: a member has failed, and the step does not tolerate that. cancelled,
    expired: it does not go on, because the workflow was stopped in that way, or ended so that it is not called."""

    done: int
    """Members that have left a value."""

    failed: int
    """Members that have failed."""

    total: int | None
    """How many members there are; None while nobody knows."""

    failures: Sequence[Failure] = ()
    """The first failures."""


class WorkflowHandle(Protocol):
    """The handle of a stored workflow, as its own jobs see it: what `Jetq.workflow` returns."""

    @property
    def id(self) -> str:
        """The workflow's id."""
        ...

    def status(self) -> WorkflowState:
        """Return the state of the workflow. Raises JobNotFound."""
        ...

    async def astatus(self) -> WorkflowState:
        """Do what `status` does, from async code."""
        ...

    def steps(self) -> Mapping[str, StepView]:
        """Return what became of each step, by its name. Raises JobNotFound."""
        ...

    async def asteps(self) -> Mapping[str, StepView]:
        """Do what `steps` does, from async code."""
        ...

    def watch(self) -> AsyncIterator[Mapping[str, StepView]]:
        """Yield what became of each step, whenever that has changed. Raises JobNotFound."""
        ...

    def cancel(self) -> Literal["cancelled", "finished"]:
        """Stop the workflow, and return "finished" if it had its value before. Raises JobNotFound."""
        ...

    async def acancel(self) -> Literal["cancelled", "finished"]:
        """Do what `cancel` does, from async code."""
        ...

    def retry(self, *, step: str | None = None, expires: Seconds | None = None) -> int:
        """Run again what has failed, or only what has failed of `step`, and return how many members that are. Raises
        WorkflowError, JobNotFound."""
        ...

    async def aretry(self, *, step: str | None = None, expires: Seconds | None = None) -> int:
        """Do what `retry` does, from async code."""
        ...


class HasWorkflows(Protocol):
    """The part of an app that gives the handles of its workflows."""

    def workflow(self, id: str) -> WorkflowHandle:
        """Return the handle of the workflow `id`."""
        ...
