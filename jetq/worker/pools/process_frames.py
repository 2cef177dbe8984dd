"""The frames that a process of the pool and its parent exchange.

A frame is its length (8 bytes, big endian) and a pickle. The parent sends a `Setup`, and for each call a `Load` and
then a `CallFrame`. The process answers `Load` and `CallFrame` with one `Returned` or `Raised` each, and sends log
records as they come.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from jetq.encoding.sealing import PayloadCodec
from jetq.model.definitions.queue import Queue
from jetq.model.failure import Failure
from jetq.settings import Settings

__all__ = ["LENGTH", "AppSetup", "CallFrame", "Load", "Logged", "Raised", "Returned", "Setup", "in_name_of"]

LENGTH = struct.Struct(">Q")


class AppSetup(Struct, frozen=True):
    """The app of the worker: jobs that are enqueued in the process are stored where that app stores them."""

    settings: Settings
    queues: tuple[Queue, ...]
    payloads: PayloadCodec | None


class Setup(Struct, frozen=True):
    """The first frame. path: where modules are found. level: of the root logger. app: None for the default app."""

    path: list[str]
    level: int
    app: AppSetup | None


class Load(Struct, frozen=True):
    """The function of the next call. main: the module that runs as `__main__`, in the form that
    `multiprocessing.spawn.prepare` takes, if the function is defined in `__main__`."""

    module: str
    qualname: str
    main: dict[str, str]


class CallFrame(Struct, frozen=True):
    """A call of the loaded function. arguments: the pickle of args, kwargs and context. wants_value: whether the parent
    uses the return value. level: of the parent's root logger now."""

    arguments: bytes
    wants_value: bool
    level: int


class Returned(Struct, frozen=True):
    """The return value of a call, pickled; None for no value. unsendable: why the value cannot be sent."""

    value: bytes | None = None
    unsendable: str | None = None


class Raised(Struct, frozen=True):
    """The exception of a call: pickled if that keeps something useful, and in any case as text."""

    error: bytes | None
    failure: Failure


class Logged(Struct, frozen=True):
    """The pickle of a log record, as `logging.handlers.QueueHandler` prepares it."""

    record: bytes


def in_name_of(failure: Failure) -> Exception:
    """Return an exception with the name and the text of an exception whose class cannot cross."""
    module, _, name = failure.type.rpartition(".")
    error: Exception = type(name or "Exception", (Exception,), {"__module__": module})(failure.message)
    return error
