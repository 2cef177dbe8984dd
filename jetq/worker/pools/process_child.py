"""The program of a process of the pool: runs one call at a time, in its main thread, until its parent hangs up.

The process gets the number of a socket and exchanges the frames of `jetq.worker.pools.process_frames`. This module is
loaded in such a process alone: its imports would cost every worker 7 ms at its start (measured with Python 3.11).
"""

from __future__ import annotations

import contextvars
import importlib
import io
import logging
import logging.handlers
import multiprocessing.spawn
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from msgspec.structs import asdict, replace

from jetq.client.app import Jetq
from jetq.encoding.failures import capture
from jetq.errors import Reject, Retry, Snooze
from jetq.model.definitions.wrappers import check_finished
from jetq.model.failure import Failure
from jetq.model.job_context import CURRENT, FIELDS, Current, job_fields
from jetq.runtime.forks import end_child, is_child_of
from jetq.worker.policy import unraised
from jetq.worker.pools.process_frames import (
    LENGTH,
    AppSetup,
    CallFrame,
    Load,
    Logged,
    Raised,
    Returned,
    Setup,
    in_name_of,
)

__all__ = ["main"]


def main() -> None:
    """Serve the parent on the socket whose number is the first argument."""
    wire = _Wire(int(sys.argv[1]))
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=wire.frames, args=(requests.put,), name="jetq-parent", daemon=True).start()
    setup: Setup = pickle.loads(requests.get())
    _set_up(setup, wire)
    calls = _Calls(setup)
    with suppress(OSError):  # the parent is gone
        while True:
            wire.send(calls.answer(requests.get()))


def _set_up(setup: Setup, wire: _Wire) -> None:
    sys.path[:] = setup.path
    sys.argv[1:] = []
    handler = _ToParent(wire)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(setup.level)

    def leave() -> None:
        """Detach a process that a task forks: the parent exchanges frames with this process alone."""
        root.removeHandler(handler)
        wire.close()

    os.register_at_fork(after_in_child=leave)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that printed text is kept when the process is killed


class _Wire:
    """The socket to the parent. Frames are sent whole, from any thread."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()

    def send(self, frame: object) -> None:
        data = pickle.dumps(frame)
        with self._lock:
            self._socket.sendall(LENGTH.pack(len(data)) + data)

    def frames(self, put: Callable[[bytes], None]) -> None:
        """Read frames until the parent hangs up, or is gone, then end the process: nothing waits for the end of the
        call any more."""
        with suppress(OSError):
            while (head := self._read(LENGTH.size)) is not None:
                data = self._read(LENGTH.unpack(head)[0])
                if data is None:
                    break
                put(data)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with all processes that its tasks have started
        os._exit(0)

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            chunk = self._socket.recv(min(size - len(data), 1 << 20))
            if not chunk:
                return None
            data += chunk
        return bytes(data)


class _ToParent(logging.handlers.QueueHandler):
    """Sends log records to the parent, where the worker's log is configured."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__(SimpleQueue())
        self._wire = wire

    def enqueue(self, record: logging.LogRecord) -> None:
        if (fields := job_fields()) and not hasattr(record, FIELDS):
            setattr(record, FIELDS, fields)  # the parent cannot tell which job made the record
        frame = Logged(pickle.dumps(record))
        with suppress(OSError):
            self._wire.send(frame)


# --- calls


class _Calls:
    """The calls of one process: which function is next, and the answer to each call."""

    def __init__(self, setup: Setup) -> None:
        self._level = setup.level
        self._app = (
            None if setup.app is None else _made(setup.app)
        )  # made before all other apps in this process, so that this app is the default one
        self._function: Callable[..., Any] | None = None
        self._pid = os.getpid()

    def answer(self, request: bytes) -> Returned | Raised:
        try:
            frame = pickle.loads(request)
            if isinstance(frame, Load):
                self._function = _find(frame)
                return Returned()
            return self._call(frame)
        except BaseException as error:
            if is_child_of(self._pid):
                end_child(error)
            return _raised(error)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # a task may have closed it
                    stream.flush()

    def _call(self, frame: CallFrame) -> Returned:
        assert self._function is not None
        if frame.level != self._level:  # the worker's level was changed; otherwise a level that a task has set stays
            self._level = frame.level
            logging.getLogger().setLevel(frame.level)
        args, kwargs, sent = pickle.loads(frame.arguments)
        context = replace(sent, _app=self._app)
        scope = contextvars.copy_context()  # the next job must not see what this job sets
        scope.run(CURRENT.set, Current(lambda: context, self._app))
        value = scope.run(self._function, *args, **kwargs)
        if is_child_of(self._pid):  # the function has forked
            end_child(None)
        check_finished(self._function, self._function.__qualname__, value)
        if not frame.wants_value and unraised(value) is None:
            return Returned()
        try:
            return Returned(pickle.dumps(value))
        except Exception as error:
            return Returned(unsendable=f"{type(error).__name__}: {error}"[:500])


def _made(app: AppSetup) -> Jetq:
    return Jetq(**asdict(app.settings), queues=app.queues, payloads=app.payloads)


def _find(load: Load) -> Callable[..., Any]:
    """Return the function of that name. If a task has taken the function's place in its module, return the task's
    function."""
    if load.main:
        # Run the file under another name, so that its `__main__` block does not run. The file is run once, however many
        # times this is called.
        multiprocessing.spawn.prepare(load.main)
    found: Any = importlib.import_module(load.module)
    for name in load.qualname.split("."):
        found = getattr(found, name)
    function: Callable[..., Any] = getattr(found, "fn", found)
    return function


# --- exceptions


def _raised(error: BaseException) -> Raised:
    failure = capture(error)
    with suppress(Exception):
        if (form := _form(error, failure)) is not None:
            return Raised(pickle.dumps(form), failure)
    return Raised(None, failure)


def _form(error: BaseException, failure: Failure) -> object | None:
    """Return what to send in place of `error`; None if nothing can cross."""
    for form in _forms(error, failure):
        with suppress(Exception):
            copy = pickle.loads(pickle.dumps(form))
            if type(copy) is type(error) and capture(copy).message == failure.message:
                return form
    return None


def _forms(error: BaseException, failure: Failure) -> Iterator[object]:
    """Yield what may be sent in place of `error`, the most faithful form first."""
    yield error
    yield _Parts(error, error.args, vars(error))
    if isinstance(error, BaseExceptionGroup):  # each member as faithfully as possible
        yield _Parts(error, (error.message, [_part(each, capture(each)) for each in error.exceptions]), {})
    if not isinstance(error, Retry | Snooze | Reject):  # these exceptions mean nothing without their attributes
        yield _Parts(error, (failure.message,), {name: each for name, each in vars(error).items() if _crosses(each)})


class _Parts:
    """An exception that is made again without its constructor, which may want other arguments than its `args`."""

    def __init__(self, error: BaseException, args: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        self._made_of = (type(error), args, attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._made_of


def _part(error: BaseException, failure: Failure) -> object:
    form = _form(error, failure)
    return _Named(failure) if form is None else form


class _Named:
    """An exception whose name and text cross, and nothing else."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return in_name_of, (self._failure,)


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def _crosses(value: object) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True
