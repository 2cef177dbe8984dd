"""Runs sync task functions in processes: started once, killed to end a call, and lost without harm to other calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from msgspec.structs import replace

from jetq.client.app import Jetq
from jetq.errors import JetqError, Reject, RemoteTraceback
from jetq.model.job_context import CURRENT, JobContext
from jetq.runtime.forks import not_for_children
from jetq.worker.pools.errors import ProcessDied
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
from jetq.worker.process.exit_status import in_words

__all__ = ["ProcessPool", "usable_cores"]

_log = logging.getLogger("jetq.worker")

_CLOSE_WITHIN = 5.0
"""Seconds that idle processes get to end by themselves."""


class ProcessPool:
    """Up to `size` processes for the functions of one worker, for the event loop on which the pool was made.

    Each process is started when a call needs it, and kept. Needs POSIX.
    """

    def __init__(self, size: int) -> None:
        self._seats = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._closed = False

    @property
    def processes(self) -> int:
        """How many processes there are now, including idle ones."""
        return len(self._children)

    async def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        context: Callable[[], JobContext],
        wants_value: bool = True,
    ) -> Any:
        """Call `fn` in a process as soon as one is free, and return its value or raise what it raised.

        context: called when the process has imported the function and the call starts, for the job's context there.
        When this coroutine is cancelled, the process and all processes that it has started are killed. Raises
        ProcessDied if the process ended by itself, Reject if the arguments or the value cannot be pickled, JetqError if
        no process can be started or the pool is closed, and what the import of the function's module raises there.
        """
        if sys.platform == "win32":
            raise JetqError("run_in='process' needs process groups, which Windows lacks", hint="use 'thread'")
        async with self._seats:
            child = await self._take(_load(fn))
            try:
                return _value(await child.ask(_call(args, kwargs, context(), wants_value)))
            finally:
                self._put_back(child)

    async def aclose(self) -> None:
        """End all processes and the processes that they have started: hang up on idle ones, kill those that still
        run."""
        self._closed = True
        for child in self._children - set(self._idle):
            child.kill()
        for child in self._idle:
            child.hang_up()
        self._idle.clear()
        if self._children:
            await asyncio.wait([child.reaper for child in self._children], timeout=_CLOSE_WITHIN)
        for child in list(self._children):
            child.kill()
            await child.reaper

    async def _take(self, load: Load) -> _Child:
        """Return a process that has imported the function. Pass over a process that has died while it was idle."""
        while self._idle:
            with contextlib.suppress(ProcessDied):
                return await self._make_ready(self._idle.pop(), load)
        return await self._make_ready(await self._start(), load)

    async def _make_ready(self, child: _Child, load: Load) -> _Child:
        answer = await child.ask(load)
        if isinstance(answer, Raised):
            self._put_back(child)
            raise _exception(answer)
        return child

    async def _start(self) -> _Child:
        if not self._closed:
            child = await _Child.start(self._forget)
            self._children.add(child)
            if not self._closed:
                return child
            child.kill()
            await child.reaper
        raise JetqError("no process can be started for a job: the worker has ended")

    def _put_back(self, child: _Child) -> None:
        if child.usable and not self._closed:
            self._idle.append(child)

    def _forget(self, child: _Child) -> None:
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)


class _Child:
    """One process and the socket to it. usable: the process has answered all requests."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_end: Callable[[_Child], None],
    ) -> None:
        self.usable = True
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_end = on_end
        self.reaper = asyncio.create_task(self._reap(), name="jetq-reap-process")

    @classmethod
    async def start(cls, on_end: Callable[[_Child], None]) -> _Child:
        setup = _framed(Setup(list(sys.path), logging.getLogger().level, _app()))
        writer: asyncio.StreamWriter | None = None
        try:
            ours, theirs = socket.socketpair()
            not_for_children(ours)
            with theirs:
                # Before the process is started: no await that could be cancelled lies between the start of the process
                # and its owner.
                reader, writer = await asyncio.open_connection(sock=ours)
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # the working directory may hold a file named like a module that jetq needs
                    "-c",
                    "import sys; sys.path[:0] = sys.argv[2:]; from jetq.worker.pools.process_child import main; main()",
                    str(theirs.fileno()),
                    *_place_of_jetq(),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    # A Ctrl-C does not reach the process, and a kill reaches what the process has started.
                    start_new_session=True,
                )
        except BaseException as error:
            if writer is not None:
                writer.close()
            if isinstance(error, OSError):
                raise JetqError(f"no process can be started for a job: {error.strerror}") from None
            raise
        writer.write(setup)
        return cls(process, reader, writer, on_end)

    async def ask(self, frame: Load | CallFrame) -> Returned | Raised:
        """Send `frame` and return its answer. If no answer comes, or the caller no longer waits, the process is killed.

        Raises ProcessDied.
        """
        self.usable = False
        try:
            self._writer.write(_framed(frame))
            await self._writer.drain()
            while isinstance(answer := await self._receive(), Logged):
                _hand_on(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.kill()  # a process that ends already keeps its exit code
            await self._process.wait()
            ending = in_words(self._process.returncode or 0)
            asked = "; its code, or a library's, ends the interpreter by os._exit" if ending.startswith("exit") else ""
            raise ProcessDied(f"the process that ran it has died: {ending}{asked}") from None
        except BaseException:
            self.kill()
            raise
        self.usable = True
        return answer

    def kill(self) -> None:
        """End the process and all processes that it has started, now."""
        self.usable = False
        if self._process.returncode is None:
            self._kill_group()

    def hang_up(self) -> None:
        """Close the connection to the process, which then ends by itself."""
        self._writer.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the group has only a zombie
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _receive(self) -> Returned | Raised | Logged:
        head = await self._reader.readexactly(LENGTH.size)
        answer: Returned | Raised | Logged = pickle.loads(await self._reader.readexactly(LENGTH.unpack(head)[0]))
        return answer

    async def _reap(self) -> None:
        await self._process.wait()
        self.usable = False
        self._kill_group()  # a group that is not empty keeps its number, so that this hits nobody else
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._on_end(self)


def _hand_on(logged: Logged) -> None:
    """Handle a log record as if it had been made in this process."""
    try:
        record = pickle.loads(logged.record)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception as error:  # from an object that a task or a filter of the app has attached to the record
        _log.warning("a log record from a process is lost: %s", type(error).__name__)


def _framed(frame: Setup | Load | CallFrame) -> bytes:
    data = pickle.dumps(frame)
    return LENGTH.pack(len(data)) + data


def _app() -> AppSetup | None:
    """Return what a process needs to enqueue jobs for the app of this worker; None if there is no such app."""
    current = CURRENT.get()
    app = None if current is None else current.app
    if not isinstance(app, Jetq):
        return None
    try:
        pickle.dumps(app.payloads)
    except Exception as error:
        raise JetqError(
            f"the app's payload codec cannot be sent to a process: {type(error).__name__}: {error}",
            hint="give its class a __reduce__, or use run_in='thread'",
        ) from None
    return AppSetup(app.settings, tuple(app.queues.values()), app.payloads)


def _load(fn: Callable[..., Any]) -> Load:
    assert isinstance(fn, FunctionType)
    if fn.__module__ != "__main__":
        return Load(fn.__module__, fn.__qualname__, {})
    # The name of this module in a child, which sends objects of it.
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    return Load(fn.__module__, fn.__qualname__, _main())


def _main() -> dict[str, str]:
    """Return what runs as `__main__` here, in the form of `multiprocessing.spawn`: a module (`python -m`) or a file."""
    main = sys.modules["__main__"]
    if name := getattr(main.__spec__, "name", None):
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    return {} if path is None else {"init_main_from_path": path}


def _call(args: tuple[Any, ...], kwargs: Mapping[str, Any], context: JobContext, wants_value: bool) -> CallFrame:
    try:
        return CallFrame(
            pickle.dumps((args, dict(kwargs), replace(context, _app=None))), wants_value, logging.getLogger().level
        )
    except Exception as error:
        raise Reject(f"its arguments cannot be sent to a process: {type(error).__name__}: {error}") from None


def _value(answer: Returned | Raised) -> Any:
    if isinstance(answer, Raised):
        raise _exception(answer)
    unsendable = answer.unsendable
    if unsendable is None and answer.value is not None:
        try:
            return pickle.loads(answer.value)
        except Exception as error:
            unsendable = f"{type(error).__name__}: {error}"[:500]
    if unsendable is not None:
        raise Reject(f"what it returned cannot be sent back from its process: {unsendable}")
    return None


def _exception(answer: Raised) -> BaseException:
    """Return what the call raised, with its frames there as the cause. An exception that cannot cross is replaced by
    one of a class of the same name."""
    error: BaseException | None = None
    if answer.error is not None:
        with contextlib.suppress(Exception):
            error = pickle.loads(answer.error)
    if error is None:
        error = in_name_of(answer.failure)
    error.__cause__ = RemoteTraceback(answer.failure.traceback)
    return error


def _place_of_jetq() -> list[str]:
    """Return where the child finds jetq, if jetq is not among the installed packages. All other places are sent to the
    child."""
    place = str(Path(__file__).parents[3])
    return [] if place == sysconfig.get_path("purelib") else [place]


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
