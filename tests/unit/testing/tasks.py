"""Tasks for the tests of `jetq.testing`."""

from __future__ import annotations

from datetime import date

from jetq import Reject, Snooze, current_job, task

RAN: list[str] = []


@task(name="testing.add")
async def add(x: int, y: int = 1) -> int:
    return x + y


@task(name="testing.book", queue="travel")
def book(day: date, *guests: str, **extras: int) -> None:
    RAN.append(f"{day:%d.%m.} {', '.join(guests)} {extras}")


@task(name="testing.failing", max_attempts=3, wait=60)
def failing() -> None:
    raise ValueError("no such mailbox")


@task(name="testing.rejecting")
async def rejecting() -> None:
    raise Reject("never")


@task(name="testing.patient")
async def patient(until: int) -> None:
    if len(RAN) < until:
        RAN.append(current_job().id)
        raise Snooze(3600)


@task(name="testing.parent")
async def parent(children: int) -> None:
    for child in range(children):
        await add.adelay(child)


@task(name="testing.calling")
async def calling_without_await() -> None:
    add.delay(1)


@task(name="testing.forever")
async def forever() -> None:
    await forever.adelay()
