"""Log lines of the commands, for people or for programs. They hold no arguments, and no secrets out of exceptions."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

from jetq.model.job_context import FIELDS, job_fields

__all__ = ["LevelSwitch", "LogFormat", "set_up"]

LogFormat = Literal["console", "json"]

_log = logging.getLogger("jetq.worker")

_COLOURS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31;1", "DEBUG": "2"}


def set_up(format: LogFormat, level: str) -> None:
    """Send every log record of `level` and above to stderr, on one line each; a traceback follows on lines of its
    own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter(colour=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class LevelSwitch:
    """Sets the level of the root logger to debug and back while the process runs. Any thread may call it."""

    def __init__(self) -> None:
        self._usual: int | None = None

    def set(self, *, debug: bool) -> None:
        """Change the level, and log a line about it that both levels show."""
        root = logging.getLogger()
        if debug and self._usual is None and root.level != logging.DEBUG:
            self._usual, before = root.level, logging.getLevelName(root.level).lower()
            root.setLevel(logging.DEBUG)
            _log.info("the log level is debug now, and was %s; SIGUSR2 sets that again", before)
        elif not debug and self._usual is not None:
            _log.info("the log level is %s again", logging.getLevelName(self._usual).lower())
            root.setLevel(self._usual)
            self._usual = None


class ConsoleFormatter(logging.Formatter):
    """Writes `12:00:00 WARNING jetq.worker: text`, with the level in colour on a terminal."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__("%(asctime)s %(level)s %(name)s: %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = f"{record.levelname:<7}"
        code = _COLOURS.get(record.levelname) if self._colour else None
        record.level = f"\x1b[{code}m{name}\x1b[0m" if code else name
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """Writes one JSON object per line: time (UTC), level, logger, message, and `exception` if there is one.

    A line that a job logs also has job, task, queue and attempt. The line about a job's end also has outcome and
    duration, in seconds.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, None) or job_fields()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
