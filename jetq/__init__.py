"""Background jobs for Python on NATS JetStream."""

from __future__ import annotations

from jetq.app import Jetq, default_app, task
from jetq.context import JobContext, current_job
from jetq.errors import (
    ArgumentError,
    BrokerError,
    BrokerUnavailable,
    DefinitionError,
    EnqueueError,
    JetqError,
    JetqWarning,
    JobInterrupted,
    JobNotFound,
    JobTimeout,
    NoResult,
    NotStored,
    PayloadTooLarge,
    PluginError,
    Reject,
    Rejected,
    RemoteTraceback,
    ResultError,
    ResultExpired,
    ResultTimeout,
    Retry,
    SettingsError,
    Snooze,
    TaskFailed,
    TopologyError,
)
from jetq.job import Job
from jetq.task import Call, Task
from jetq.worker import Worker

__all__ = [
    "ArgumentError",
    "BrokerError",
    "BrokerUnavailable",
    "Call",
    "DefinitionError",
    "EnqueueError",
    "Jetq",
    "JetqError",
    "JetqWarning",
    "Job",
    "JobContext",
    "JobInterrupted",
    "JobNotFound",
    "JobTimeout",
    "NoResult",
    "NotStored",
    "PayloadTooLarge",
    "PluginError",
    "Reject",
    "Rejected",
    "RemoteTraceback",
    "ResultError",
    "ResultExpired",
    "ResultTimeout",
    "Retry",
    "SettingsError",
    "Snooze",
    "Task",
    "TaskFailed",
    "TopologyError",
    "Worker",
    "current_job",
    "default_app",
    "task",
]
