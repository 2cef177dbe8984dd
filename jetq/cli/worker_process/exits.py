"""Says in words what ends a worker's process or keeps it from its work: the app's lifespan, or `os._exit` in a job."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from jetq.cli.app_loading import place
from jetq.cli.exit import FAILED, Failed, is_verbose
from jetq.errors import JetqError
from jetq.model.job_context import job_fields
from jetq.worker.lifespan import failed_at

__all__ = ["announced_exits", "lifespan_in_words"]

_log = logging.getLogger("jetq.worker")


@contextlib.contextmanager
def lifespan_in_words() -> Iterator[None]:
    """Raise Failed, with the place in the user's code, for an error that the app's lifespan raises.

    With -v the error itself is raised.
    """
    try:
        yield
    except Exception as error:
        stage = failed_at(error)
        if stage is None or is_verbose():
            raise
        what = error.message if isinstance(error, JetqError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, JetqError) else None
        raise Failed(
            f"the app's lifespan failed at its {stage}{', so no job was run' if stage == 'start' else ''}: {what}\n"
            f"{place(error)}",
            hint=hint or "-v shows the traceback",
            code=FAILED,
        ) from error


@contextlib.contextmanager
def announced_exits(running: Callable[[], int]) -> Iterator[None]:
    """Log a call of `os._exit` before it ends this process, as long as the context is open.

    running: returns how many jobs this process runs. Python reports such a call in no other way.
    """
    end, pid = os._exit, os.getpid()

    def announced(status: int) -> NoReturn:
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # the documented way to see who calls
        own = str(caller.f_globals.get("__name__", "")).partition(".")[0] == "jetq"
        if os.getpid() == pid and not own:  # a forked child may end like this
            with contextlib.suppress(Exception):
                _announce(status, f"{caller.f_code.co_filename}:{caller.f_lineno}", running())
        end(status)

    os._exit = announced
    try:
        yield
    finally:
        os._exit = end


def _announce(status: int, where: str, running: int) -> None:
    fields = job_fields()
    who = f"{fields['task']} {fields['job']}" if fields else "something that is no job's own code"
    _log.error(
        "%s calls os._exit(%s) at %s, which ends this worker at once: its %d jobs run again when their leases end; "
        'raise an exception to fail a job, or let the task run_in="process"',
        who, status, where, running,
    )  # fmt: skip
    for handler in logging.getLogger().handlers:
        handler.flush()
