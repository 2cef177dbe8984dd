"""Background jobs for Python on NATS JetStream."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jetq import foreign_words
from jetq.app import Jetq, default_app, task
from jetq.context import JobContext, current_job
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
)
from jetq.job import Job
from jetq.own_types import register_type
from jetq.queue import Queue
from jetq.records import Record, Records
from jetq.schedule import Schedule
from jetq.schedules import ScheduleInfo
from jetq.sealing import EncryptedPayloads, PayloadCodec, PayloadContext, SignedPayloads
from jetq.secret import Secret
from jetq.task import Call, Task
from jetq.worker import Worker

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
    "Task",
    "TaskFailed",
    "TopologyError",
    "Worker",
    "current_job",
    "default_app",
    "register_type",
    "task",
]

if not TYPE_CHECKING:  # a type checker would take any name for one that is here
    __getattr__ = foreign_words.absent_name

if not getattr(sys, "_is_gil_enabled", lambda: True)():  # of Python 3.13
    raise ImportError(
        "jetq is not made for a free-threaded Python without its lock, which keeps what threads share whole."
        " Start it with PYTHON_GIL=1, or use an ordinary build."
    )
