"""The handle of a stored workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from jetq.encoding.sealer import Sealer
from jetq.errors import ResultError
from jetq.migration_hints import answering
from jetq.model.definitions.keywords import Seconds
from jetq.model.workflows.records import WorkflowState
from jetq.model.workflows.views import StepView
from jetq.operations.workflows import cancelling, handling, retrying
from jetq.operations.workflows.views.following import follow
from jetq.units import seconds

if TYPE_CHECKING:
    from jetq.client.session import Session
    from jetq.encoding.sealing import PayloadCodec

__all__ = ["StepView", "Workflow"]

R_co = TypeVar("R_co", covariant=True)


class _App(Protocol):
    """The parts of an app that a handle uses."""

    @property
    def session(self) -> Session: ...

    @property
    def payloads(self) -> PayloadCodec | None: ...


@answering("Workflow")
class Workflow(Generic[R_co]):
    """A stored workflow: asks what became of it, and waits for its value.

    id: names it everywhere. disposition: whether `.delay()` stored it, or found an existing one of that id or key.
    """

    def __init__(
        self, app: _App, id: str, decode: Callable[[bytes], Any], disposition: Literal["stored", "existing"]
    ) -> None:
        self.id = id
        self.disposition = disposition
        self._app = app
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Workflow {self.id}>"

    def result(self, timeout: Seconds | None = 60.0) -> R_co:
        """Wait up to `timeout` seconds for the end of the workflow, and return its value.

        None waits without a bound. Raises TaskFailed if it has failed, JobCancelled or JobExpired if it was stopped,
        ResultTimeout, ResultExpired if the value is not kept any more, ResultError if it is of another type, as that of
        another work under the same id is, BrokerUnavailable.
        """
        return self._app.session.run(lambda: self.aresult(timeout))

    async def aresult(self, timeout: Seconds | None = 60.0) -> R_co:
        """Do what `result` does, from async code."""
        bound = None if timeout is None else seconds(timeout, "timeout")
        broker = await self._app.session.broker()
        body = await handling.wait_for_value(broker, Sealer(self._app.payloads), self.id, bound)
        try:
            value: R_co = self._decode(body)
        except ValueError as error:
            raise ResultError(
                f"the value of workflow {self.id} is not what its work is annotated to give: {error}",
                hint="is it another work's, which was stored under the same id or key?",
            ) from None
        return value

    def status(self) -> WorkflowState:
        """Return `running`, `succeeded`, `failed`, `cancelled` or `expired`. Raises JobNotFound."""
        return self._app.session.run(self.astatus)

    async def astatus(self) -> WorkflowState:
        """Do what `status` does, from async code."""
        return await handling.status(await self._app.session.broker(), Sealer(self._app.payloads), self.id)

    def steps(self) -> Mapping[str, StepView]:
        """Return what became of each step, by its name. Raises JobNotFound."""
        return self._app.session.run(self.asteps)

    async def asteps(self) -> Mapping[str, StepView]:
        """Do what `steps` does, from async code."""
        return await handling.steps(await self._app.session.broker(), Sealer(self._app.payloads), self.id)

    def cancel(self) -> Literal["cancelled", "finished"]:
        """Stop the workflow: what waits is not started, and what runs is cancelled; then `finally_` is called.

        Returns "finished", and changes nothing, if the workflow has its value, or has expired. A workflow that has
        failed is stopped too, and cannot be retried any more. Raises JobNotFound.
        """
        return self._app.session.run(self.acancel)

    async def acancel(self) -> Literal["cancelled", "finished"]:
        """Do what `cancel` does, from async code."""
        return await cancelling.cancel(await self._app.session.broker(), Sealer(self._app.payloads), self.id)

    def retry(self, *, step: str | None = None, expires: Seconds | None = None) -> int:
        """Run again what has failed, or only what has failed of `step`, and go on with what waited for it, on today's
        code. Return how many members are run again; 0 if nothing has failed.

        expires: seconds from now to a new deadline, after which no step begins any more; without it, the deadline stays
        if it has not passed, and else is the 31 days of a new workflow. A workflow can be retried for 31 days after it
        has failed or expired. `on_failure` and `finally_` are called again at its next end. What a work tolerates by
        `settled` or `or_else` is not run again. Raises WorkflowError for a step that the workflow does not have, or if
        the workflow was cancelled, JobNotFound.
        """
        return self._app.session.run(lambda: self.aretry(step=step, expires=expires))

    async def aretry(self, *, step: str | None = None, expires: Seconds | None = None) -> int:
        """Do what `retry` does, from async code."""
        span = None if expires is None else seconds(expires, "expires")
        broker = await self._app.session.broker()
        return await retrying.retry(broker, Sealer(self._app.payloads), self.id, step=step, expires=span)

    async def watch(self) -> AsyncIterator[Mapping[str, StepView]]:
        """Yield what became of each step, as `steps` returns it: at once, and whenever it has changed, until the
        workflow has ended. Raises JobNotFound."""
        broker = await self._app.session.broker()
        async for views in follow(broker, Sealer(self._app.payloads), self.id):
            yield views
