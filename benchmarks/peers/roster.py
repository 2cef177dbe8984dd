"""Who takes part, in what environment, on which server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Job = Literal["loop", "threads"]


@dataclass(frozen=True)
class Contestant:
    """One program of `contestants/`.

    program: its file there, without the suffix. server: "nats" or "redis", started for it alone.
    packages: what its environment is made of; none means this one. shown: whose versions are reported.
    jobs: the kinds of functions that it can run, coroutines on a loop or plain ones in threads.
    callers: the kinds of callers that it has an API for.
    """

    name: str
    program: str
    server: Literal["nats", "redis"]
    packages: tuple[str, ...]
    shown: tuple[str, ...]
    jobs: tuple[Job, ...]
    callers: tuple[Job, ...]


ROSTER = (
    Contestant(
        name="floor",
        program="with_floor",
        server="nats",
        packages=(),
        shown=("nats-py", "uvloop"),
        jobs=("loop",),
        callers=("loop",),
    ),
    Contestant(
        name="jetq",
        program="with_jetq",
        server="nats",
        packages=(),
        shown=("jetq-nats", "nats-py", "msgspec", "uvloop"),
        jobs=("loop", "threads"),
        callers=("loop", "threads"),
    ),
    Contestant(
        name="taskiq-nats",
        program="with_taskiq_nats",
        server="nats",
        packages=("taskiq", "taskiq-nats", "uvloop"),
        shown=("taskiq", "taskiq-nats", "nats-py", "uvloop"),
        jobs=("loop", "threads"),
        callers=("loop",),
    ),
    Contestant(
        name="taskiq-redis",
        program="with_taskiq_redis",
        server="redis",
        packages=("taskiq", "taskiq-redis", "hiredis", "uvloop"),
        shown=("taskiq", "taskiq-redis", "redis", "uvloop"),
        jobs=("loop", "threads"),
        callers=("loop",),
    ),
    Contestant(
        name="celery",
        program="with_celery",
        server="redis",
        packages=("celery[redis]", "hiredis"),
        shown=("celery", "kombu", "redis"),
        jobs=("threads",),
        callers=("threads",),
    ),
    Contestant(
        name="dramatiq",
        program="with_dramatiq",
        server="redis",
        packages=("dramatiq[redis]", "hiredis"),
        shown=("dramatiq", "redis"),
        jobs=("threads",),
        callers=("threads",),
    ),
    Contestant(
        name="arq",
        program="with_arq",
        server="redis",
        packages=("arq", "hiredis", "uvloop"),
        shown=("arq", "redis", "uvloop"),
        jobs=("loop",),
        callers=("loop",),
    ),
    Contestant(
        name="saq",
        program="with_saq",
        server="redis",
        packages=("saq[redis]", "hiredis", "uvloop", "typing-extensions"),
        shown=("saq", "redis", "uvloop"),
        jobs=("loop", "threads"),
        callers=("loop",),
    ),
    Contestant(
        name="streaq",
        program="with_streaq",
        server="redis",
        packages=("streaq", "uvloop"),
        shown=("streaq", "coredis", "uvloop"),
        jobs=("loop", "threads"),
        callers=("loop",),
    ),
    Contestant(
        name="docket",
        program="with_docket",
        server="redis",
        packages=("pydocket", "hiredis", "uvloop"),
        shown=("pydocket", "redis", "uvloop"),
        jobs=("loop",),
        callers=("loop",),
    ),
    Contestant(
        name="huey",
        program="with_huey",
        server="redis",
        packages=("huey", "redis", "hiredis"),
        shown=("huey", "redis"),
        jobs=("threads",),
        callers=("threads",),
    ),
)
