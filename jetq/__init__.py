"""Background jobs for Python on NATS JetStream."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from jetq import migration_hints
from jetq.client.app import Jetq, default_app, task
from jetq.client.call import Call, Work
from jetq.client.job import Job
from jetq.client.task import Task
from jetq.encoding.registered_types import register_type
from jetq.errors import (
    ArgumentError,
    BadPayload,
    BrokerError,
    BrokerUnavailable,
    DefinitionError,
    Denied,
    EnqueueError,
    Interruption,
    JetqError,
    JetqWarning,
    JobCancelled,
    JobExpired,
    JobInterrupted,
    JobNotFound,
    JobTimeout,
    NewerVersion,
    NoResult,
    NotSent,
    NotStored,
    PayloadTooLarge,
    PluginError,
    RateLimited,
    Reject,
    Rejected,
    RemoteTraceback,
    ResultError,
    ResultExpired,
    ResultTimeout,
    Retry,
    ScheduleNotFound,
    SettingsError,
    Snooze,
    TaskFailed,
    TopologyError,
    WorkflowError,
)
from jetq.model.job_context import JobContext, current_job
from jetq.model.redaction import Secret

if TYPE_CHECKING:
    from jetq.client.records import Record, Records
    from jetq.client.workflows.many import each, group
    from jetq.client.workflows.parts import Many
    from jetq.client.workflows.workflow import StepView, Workflow
    from jetq.encoding.sealing import EncryptedPayloads, PayloadCodec, PayloadContext, SignedPayloads
    from jetq.model.definitions.queue import Queue
    from jetq.model.definitions.schedule import Schedule
    from jetq.model.workflows.failure import Failure
    from jetq.operations.schedules import ScheduleInfo
    from jetq.worker.worker import Worker

__all__ = [
    "ArgumentError",
    "BadPayload",
    "BrokerError",
    "BrokerUnavailable",
    "Call",
    "DefinitionError",
    "Denied",
    "EncryptedPayloads",
    "EnqueueError",
    "Failure",
    "Interruption",
    "Jetq",
    "JetqError",
    "JetqWarning",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobExpired",
    "JobInterrupted",
    "JobNotFound",
    "JobTimeout",
    "Many",
    "NewerVersion",
    "NoResult",
    "NotSent",
    "NotStored",
    "PayloadCodec",
    "PayloadContext",
    "PayloadTooLarge",
    "PluginError",
    "Queue",
    "RateLimited",
    "Record",
    "Records",
    "Reject",
    "Rejected",
    "RemoteTraceback",
    "ResultError",
    "ResultExpired",
    "ResultTimeout",
    "Retry",
    "Schedule",
    "ScheduleInfo",
    "ScheduleNotFound",
    "Secret",
    "SettingsError",
    "SignedPayloads",
    "Snooze",
    "StepView",
    "Task",
    "TaskFailed",
    "TopologyError",
    "Work",
    "Worker",
    "Workflow",
    "WorkflowError",
    "current_job",
    "default_app",
    "each",
    "group",
    "register_type",
    "task",
]

_WHEN_ASKED_FOR = {
    "EncryptedPayloads": "jetq.encoding.sealing",
    "Failure": "jetq.model.workflows.failure",
    "Many": "jetq.client.workflows.parts",
    "PayloadCodec": "jetq.encoding.sealing",
    "PayloadContext": "jetq.encoding.sealing",
    "Queue": "jetq.model.definitions.queue",
    "Record": "jetq.client.records",
    "Records": "jetq.client.records",
    "Schedule": "jetq.model.definitions.schedule",
    "ScheduleInfo": "jetq.operations.schedules",
    "SignedPayloads": "jetq.encoding.sealing",
    "StepView": "jetq.client.workflows.workflow",
    "Worker": "jetq.worker.worker",
    "Workflow": "jetq.client.workflows.workflow",
    "each": "jetq.client.workflows.many",
    "group": "jetq.client.workflows.many",
}
"""The names that most programs do not need, and the modules that define them. A process that only enqueues loads none
of these modules, above all nothing of the worker."""

if not TYPE_CHECKING:  # a type checker would accept any name as defined here

    def __getattr__(name: str) -> object:
        """Load the name when it is first asked for.

        Raises AttributeError for a name that jetq does not have, or ImportError, with the line to write in its place.
        """
        if name not in _WHEN_ASKED_FOR:
            migration_hints.absent_name(name, sys._getframe(1).f_code)
        globals()[name] = getattr(import_module(_WHEN_ASKED_FOR[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        """Return all names, also those that are not loaded yet."""
        return sorted({*globals(), *__all__})


if not getattr(sys, "_is_gil_enabled", lambda: True)():  # of Python 3.13
    raise ImportError(
        "jetq is not made for a free-threaded Python without its lock, which keeps what threads share whole."
        " Start it with PYTHON_GIL=1, or use an ordinary build."
    )
