"""The examination of a deployment behind `jetq doctor`: ask for the facts, and judge them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from msgspec import Struct

from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import BrokerError
from jetq.model.deployment_facts import Monitored, Survey
from jetq.model.queue_info import QueueInfo
from jetq.model.worker_status import StatusQuery, own_version
from jetq.operations.dead_letters import DeadFilter, each_dead
from jetq.operations.doctor.findings import (
    Durability,
    Finding,
    Fleet,
    about_dead,
    about_fleet,
    about_server,
    about_store,
    durability,
)
from jetq.operations.doctor.monitoring import ask_monitoring

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Report", "examine"]

_WORKERS_WITHIN = 0.5
_JOBS_LOOKED_AT = 300
"""How many jobs of each queue are looked at, the oldest: 0.1 s of one connection's time. Jobs that cannot be run
collect there."""

_SEVERITIES = ("problem", "warning", "note")


class Report(Struct, frozen=True):
    """The findings of an examination, the worst first, and the facts behind them."""

    survey: Survey
    durability: Durability
    fleets: tuple[Fleet, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong or weak."""
        return all(finding.severity == "note" for finding in self.findings)


async def examine(
    broker: Broker,
    tasks: Mapping[str, Sequence[str]],
    *,
    replicas: int,
    monitors: Sequence[str] = (),
    most_dead: int | None = None,
    dead_within: float | None = None,
) -> Report:
    """Examine the deployment that `broker` reaches, and change nothing. This takes a second or two.

    tasks: the tasks that the app declares, by queue. replicas: how many copies new streams would get. monitors: URLs of
    servers' monitoring. most_dead: how many dead letters a queue may have; None for any number. dead_within: count only
    the jobs that died in the last `dead_within` seconds; None for all. Raises BrokerUnavailable if the broker is lost
    meanwhile, SettingsError for a monitor that is no URL of monitoring.
    """
    survey = await broker.survey({queue: next(iter(names), None) for queue, names in tasks.items()})
    monitored, silent = await _ask_monitors(monitors)
    fleets, unasked = await _fleets(broker, tasks) if survey.listed else ([], [])
    findings = chain(
        about_server(survey.server, survey.usage, monitored),
        silent,
        about_store(survey, tasks.keys()),
        about_fleet(fleets, tasks, own_version()),
        unasked,
        [] if most_dead is None else await _dead(broker, fleets, most_dead, dead_within),
    )
    return Report(
        survey=survey,
        durability=durability(survey.streams, monitored, replicas),
        fleets=tuple(fleets),
        findings=tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))),
    )


async def _ask_monitors(urls: Sequence[str]) -> tuple[list[Monitored], list[Finding]]:
    monitored, silent = [], []
    for url in urls:
        try:
            monitored.append(await ask_monitoring(url))
        except BrokerError as error:
            silent.append(Finding("warning", "no-monitoring", "--monitor", error.message, error.hint or ""))
    return monitored, silent


async def _dead(broker: Broker, fleets: Sequence[Fleet], most: int, within: float | None) -> list[Finding]:
    found: list[Finding] = []
    since = None if within is None else broker.now() - within
    for fleet in fleets:
        name, dead = fleet.queue.name, fleet.queue.dead
        if since is not None and dead > most:
            which = DeadFilter(queue=name, since=since, limit=most + 1)
            dead = len([entry async for entry in each_dead(broker, which)])
        found += about_dead(name, dead, most, within)
    return found


async def _fleets(broker: Broker, tasks: Mapping[str, Sequence[str]]) -> tuple[list[Fleet], list[Finding]]:
    """Return the jobs and workers of each queue, all asked at once, and a finding if the queues could not be asked."""
    try:
        infos = await broker.queues()
        return await asyncio.gather(*(_fleet(broker, info, tasks.get(info.name, ())) for info in infos)), []
    except BrokerError as error:
        return [], [Finding("warning", "not-examined", "queues", error.message, error.hint or "")]


async def _fleet(broker: Broker, info: QueueInfo, declared: Sequence[str]) -> Fleet:
    existing = await broker.stored_jobs(info.name, limit=_JOBS_LOOKED_AT)
    schedules = await broker.schedules(info.name)
    waiting = frozenset(
        {*(found.delivery.task for found in existing), *(each.record.task for each in schedules)} - {""}
    )
    question = encode(StatusQuery(tasks=tuple(sorted({*waiting, *declared}))))
    asked = broker.now()
    workers = read_answers(await broker.ask(info.name, question, _WORKERS_WITHIN))
    overdue, _ = await broker.overdue(info.name, 0)
    return Fleet(info, tuple(workers), waiting, asked, len(overdue))
