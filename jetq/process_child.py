"""A process of the pool: runs one call at a time, in its main thread, until its parent hangs up.

It speaks on a socket whose number it is given. A frame is its length (8 bytes, big endian) and a pickle. The
parent sends a `Setup` and then `CallFrame`s; this side sends one `Returned` or `Raised` for each, and log records as
they come.
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import multiprocessing.spawn
import os
import pickle
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from jetq.context import CURRENT, JobContext
from jetq.failures import capture

__all__ = ["LENGTH", "CallFrame", "Logged", "Raised", "Returned", "Setup", "main"]

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class Setup:
    """path: where modules are found. level: of the root logger."""

    path: list[str]
    level: int


@dataclass(frozen=True)
class CallFrame:
    """One call. main: the file that runs as `__main__`, if the function is defined there. arguments: the pickle of
    args, kwargs and context. wants_value: whether anybody looks at what it returns."""

    module: str
    qualname: str
    main: str | None
    arguments: bytes
    wants_value: bool


@dataclass(frozen=True)
class Returned:
    """What a call returned, pickled; None for nothing. unsendable: why it cannot be sent."""

    value: bytes | None = None
    unsendable: str | None = None


@dataclass(frozen=True)
class Raised:
    """What a call raised: pickled if that is worth something, and in any case as text."""

    error: bytes | None
    type: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Logged:
    """A log record, as `logging.handlers.QueueHandler` prepares it."""

    record: logging.LogRecord


def _resolve(module: str, qualname: str) -> Callable[..., Any]:
    """The function of that name, out of the task that has taken its place in its module."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    function: Callable[..., Any] = getattr(found, "fn", found)
    return function


class _Wire:
    """The socket to the parent. Frames are sent whole, from any thread."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()

    def send(self, frame: object) -> None:
        data = pickle.dumps(frame)
        with self._lock:
            self._socket.sendall(LENGTH.pack(len(data)) + data)

    def frames(self, put: Callable[[bytes], None]) -> None:
        """Read until the parent hangs up, or is gone: then nobody wants to know how the call ends."""
        with suppress(OSError):
            while (head := self._read(LENGTH.size)) is not None:
                data = self._read(LENGTH.unpack(head)[0])
                if data is None:
                    break
                put(data)
        os._exit(0)

    def _read(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            chunk = self._socket.recv(min(size - len(data), 1 << 20))
            if not chunk:
                return None
            data += chunk
        return bytes(data)


class _ToParent(logging.handlers.QueueHandler):
    """Log records are handled where the worker's log is configured."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__(SimpleQueue())
        self._wire = wire

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self._wire.send(Logged(record))


def main() -> None:
    """Serve the parent on the socket whose number is the first argument."""
    wire = _Wire(int(sys.argv[1]))
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=wire.frames, args=(requests.put,), name="jetq-parent", daemon=True).start()
    setup: Setup = pickle.loads(requests.get())
    sys.path[:] = setup.path
    sys.argv[1:] = []
    logging.getLogger().addHandler(_ToParent(wire))
    logging.getLogger().setLevel(setup.level)
    while True:
        wire.send(_answer(pickle.loads(requests.get())))


def _answer(frame: CallFrame) -> Returned | Raised:
    try:
        function, args, kwargs, context = _load(frame)
        CURRENT.set((context, None))
        value = function(*args, **kwargs)
    except BaseException as error:
        return _raised(error)
    finally:
        CURRENT.set(None)
    if not frame.wants_value:
        return Returned()
    try:
        return Returned(pickle.dumps(value))
    except Exception as error:
        return Returned(unsendable=f"{type(error).__name__}: {error}"[:500])


def _load(frame: CallFrame) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], JobContext]:
    if frame.main is not None and getattr(sys.modules["__main__"], "__file__", None) != frame.main:
        # As multiprocessing does it: the file is run under another name, so that its `__main__` block is not.
        multiprocessing.spawn.prepare({"init_main_from_path": frame.main})
    function = _resolve(frame.module, frame.qualname)
    args, kwargs, context = pickle.loads(frame.arguments)
    return function, args, kwargs, context


def _raised(error: BaseException) -> Raised:
    failure = capture(error)
    pickled = None
    with suppress(Exception):
        pickled = pickle.dumps(error)
        if type(pickle.loads(pickled)) is not type(error):
            pickled = None
    return Raised(pickled, failure.type, failure.message, failure.traceback)
