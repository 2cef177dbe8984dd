"""Sync task functions in processes: started once, killed to end a call, and lost without harm to others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from jetq.context import JobContext
from jetq.errors import JetqError, Reject, RemoteTraceback
from jetq.process_child import LENGTH, CallFrame, Logged, Raised, Returned, Setup
from jetq.supervisor import in_words

__all__ = ["ProcessDied", "ProcessPool"]

_log = logging.getLogger("jetq.worker")

_CLOSE_WITHIN = 5.0


class ProcessDied(JetqError):
    """The process that ran a job has died of it: a crash, `os._exit`, or the kernel's out-of-memory killer."""


class ProcessPool:
    """Up to `size` processes for the functions of one worker, for the event loop it was made on.

    Each is started when a call needs it, and kept. Needs POSIX.
    """

    def __init__(self, size: int) -> None:
        self._seats = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()

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

        context: called when it starts, for the job's context there. When this is cancelled, the process and all it
        has started are killed. Raises ProcessDied if the process ended by itself, Reject if the arguments or the value
        cannot be pickled, JetqError if no process can be started.
        """
        if sys.platform == "win32":
            raise JetqError("run_in='process' needs process groups, which Windows lacks", hint="use 'thread'")
        async with self._seats:
            frame = _frame(fn, args, kwargs, context(), wants_value)
            child = await self._take()
            try:
                answer = await child.call(frame)
            except BaseException:
                child.kill()
                raise
            self._idle.append(child)
        return _value(answer, fn)

    async def aclose(self) -> None:
        """End all processes: the idle ones by hanging up, what still runs by force."""
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

    async def _take(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
        child = await _Child.start(self._children.discard)
        self._children.add(child)
        return child


class _Child:
    """One process and the socket to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_end: Callable[[_Child], None],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_end = on_end
        self.reaper = asyncio.create_task(self._reap(), name="jetq-reap-process")

    @classmethod
    async def start(cls, on_end: Callable[[_Child], None]) -> _Child:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    "from jetq.process_child import main; main()",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # a Ctrl-C is not for it, and a kill reaches what it has started
                    env={**os.environ, "PYTHONPATH": _python_path()},
                )
        except OSError as error:
            ours.close()
            raise JetqError(f"no process can be started for a job: {error.strerror}") from None
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, reader, writer, on_end)
        child._send(Setup(list(sys.path), logging.getLogger().level))
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    async def call(self, frame: CallFrame) -> Returned | Raised:
        """Send a call and wait for its answer. Raises ProcessDied."""
        try:
            self._send(frame)
            await self._writer.drain()
            while True:
                head = await self._reader.readexactly(LENGTH.size)
                answer = pickle.loads(await self._reader.readexactly(LENGTH.unpack(head)[0]))
                if not isinstance(answer, Logged):
                    return answer  # type: ignore[no-any-return]
                logging.getLogger(answer.record.name).handle(answer.record)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._process.wait()
            ending = in_words(self._process.returncode or 0)
            raise ProcessDied(f"the process that ran it has died: {ending}") from None

    def kill(self) -> None:
        """End it and all it has started, now."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Let it end by itself."""
        self._writer.close()

    def _send(self, frame: Setup | CallFrame) -> None:
        data = pickle.dumps(frame)
        self._writer.write(LENGTH.pack(len(data)) + data)

    async def _reap(self) -> None:
        await self._process.wait()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._on_end(self)


def _frame(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: JobContext, wants_value: bool
) -> CallFrame:
    assert isinstance(fn, FunctionType)
    main = getattr(sys.modules["__main__"], "__file__", None) if fn.__module__ == "__main__" else None
    try:
        arguments = pickle.dumps((args, dict(kwargs), context))
    except Exception as error:
        raise Reject(f"its arguments cannot be sent to a process: {type(error).__name__}: {error}") from None
    return CallFrame(fn.__module__, fn.__qualname__, main, arguments, wants_value)


def _value(answer: Returned | Raised, fn: Callable[..., Any]) -> Any:
    if isinstance(answer, Raised):
        raise _exception(answer)
    if answer.unsendable is not None:
        raise Reject(f"what it returned cannot be sent back from its process: {answer.unsendable}")
    return None if answer.value is None else pickle.loads(answer.value)


def _exception(answer: Raised) -> BaseException:
    """What the call raised, with its frames there as the cause; of a class of the same name if it cannot cross."""
    error: BaseException | None = None
    if answer.error is not None:
        with contextlib.suppress(Exception):
            error = pickle.loads(answer.error)
    if error is None:
        module, _, name = answer.type.rpartition(".")
        error = type(name or "Exception", (Exception,), {"__module__": module})(answer.message)
    error.__cause__ = RemoteTraceback(answer.traceback)
    return error


def _python_path() -> str:
    """Where the child finds jetq; all other places are sent to it."""
    places = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    if inherited := os.environ.get("PYTHONPATH"):
        places.append(inherited)
    return os.pathsep.join(places)
