"""Tasks that get secrets and say them aloud, in every way in which a task can."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from msgspec import Struct

from jetq import Reject, Retry, Secret, current_job, task


class Login(Struct, rename="camel"):
    """A secret within a value."""

    user: str
    pin_code: Secret[str]


class Picky(Struct):
    """A type that refuses what it gets, with the value."""

    code: Secret[str]

    def __post_init__(self) -> None:
        if self.code != "fine":
            raise ValueError(f"{self.code!r} is no code")


def _say(*values: object) -> ValueError:
    error = ValueError(f"cannot use {values} at https://u:{values[0]}@host")
    error.add_note(f"they were {values!r}")
    error.__cause__ = KeyError(values[-1])
    return error


@task(queue="secret", result_ttl=600)
async def succeed(user: str, password: str, pin: Secret[str], login: Login, *more: Secret[str], **others: Any) -> Login:
    return login


@task(queue="secret", max_attempts=2, wait=0.0, result_ttl=600)
async def fail(user: str, password: str, pin: Secret[str], login: Login, *more: Secret[str], **others: Any) -> None:
    raise _say(password, pin, login, more, others)


@task(queue="secret", max_attempts=1, result_ttl=600)
def fail_in_thread(password: str, pin: Secret[str]) -> None:
    raise _say(password, pin)


@task(queue="secret", max_attempts=1, result_ttl=600, run_in="process")
def fail_in_process(password: str, pin: Secret[str]) -> None:
    raise _say("-" * 2400 + password, pin)


@task(queue="secret", max_crashes=1, run_in="process")
def crash(password: str, pin: Secret[str]) -> None:
    os._exit(3)


@task(queue="secret", max_attempts=1, timeout=0.3)
async def late(password: str, pin: Secret[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        raise _say(password, pin)


@task(queue="secret", max_attempts=2)
async def ask_again(password: str, pin: Secret[str], next_password: str, next_pin: Secret[str]) -> None:
    if current_job().attempt == 1:
        raise Retry(0, arguments={"password": next_password, "pin": next_pin}, reason=f"try {next_password} {next_pin}")
    raise Reject(f"nor {password} nor {pin}")


@task(queue="secret")
async def picky(picky: Picky, password: str = "fine") -> None:
    raise AssertionError("not reached")


@task(queue="secret", result_ttl=600)
async def unstorable(password: str, pin: Secret[str]) -> int:
    return password + pin  # type: ignore[return-value]
