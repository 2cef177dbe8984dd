"""What a process of the pool and its parent say to one another.

A frame is its length (8 bytes, big endian) and a pickle. The parent sends a `Setup`, and for each call a `Load` and
then a `CallFrame`; the process answers both with one `Returned` or `Raised`, and sends log records as they come.
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
    """The app whose worker this is: jobs that are enqueued here are stored where that one stores them."""

    settings: Settings
    queues: tuple[Queue, ...]
    payloads: PayloadCodec | None


class Setup(Struct, frozen=True):
    """path: where modules are found. level: of the root logger. app: None for the default one."""

    path: list[str]
    level: int
    app: AppSetup | None


class Load(Struct, frozen=True):
    """The function of the next call. main: what runs as `__main__`, as `multiprocessing.spawn.prepare` takes it, if
    the function is defined there."""

    module: str
    qualname: str
    main: dict[str, str]


class CallFrame(Struct, frozen=True):
    """A call of the loaded function. arguments: the pickle of args, kwargs and context. wants_value: whether anybody
    looks at what it returns. level: of the parent's root logger now."""

    arguments: bytes
    wants_value: bool
    level: int


class Returned(Struct, frozen=True):
    """What a call returned, pickled; None for nothing. unsendable: why it cannot be sent."""

    value: bytes | None = None
    unsendable: str | None = None


class Raised(Struct, frozen=True):
    """What a call raised: pickled if that is worth something, and in any case as text."""

    error: bytes | None
    failure: Failure


class Logged(Struct, frozen=True):
    """The pickle of a log record, as `logging.handlers.QueueHandler` prepares it."""

    record: bytes


def in_name_of(failure: Failure) -> Exception:
    """An exception with the name and the text of one whose class cannot cross."""
    module, _, name = failure.type.rpartition(".")
    error: Exception = type(name or "Exception", (Exception,), {"__module__": module})(failure.message)
    return error
