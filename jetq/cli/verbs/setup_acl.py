"""`jetq setup acl`: prints the least permissions that each role needs, as server configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import click

from jetq.cli.app_option import choose_app
from jetq.cli.exit import Failed, verbose_option
from jetq.cli.output import echo_json
from jetq.client.app import Jetq
from jetq.jetstream.streams.permissions import (
    Enqueued,
    Permissions,
    of_canceller,
    of_operator,
    of_producer,
    of_worker,
)
from jetq.jetstream.streams.subjects import Subjects
from jetq.operations.workflows.creating import WATCH

__all__ = ["acl", "permissions", "render"]

ROLES = ["producer", "worker", "cancel", "operator"]
"""The users whose permissions are printed: without a choice those of the first two."""

_HOW = """\
# NATS permissions for jetq, made by `jetq setup acl`. Include this file in the server's configuration, and name what is
# below in its users: permissions: $JETQ_PRODUCER. Streams are made by `jetq setup`, as a user who may do more.
# Who may subscribe to the inboxes of others reads what is answered to them: let each role have a JETQ_INBOX_PREFIX.
"""


@click.command()
@click.argument("apps", metavar="APP...", nargs=-1, required=True)
@click.option("-q", "--queue", multiple=True, help="Only for tasks of this queue. By default of every queue.")
@click.option("--role", type=click.Choice(ROLES), help="Only for this role. By default for producers and workers.")
@click.option(
    "--keys", is_flag=True, help="Producers give keys at the call, also for tasks without a key of their own."
)
@click.option(
    "--plans",
    is_flag=True,
    help="Producers store workflows that begin with these tasks, and so may have a worker run whatever it can enqueue.",
)
@click.option(
    "--enqueues",
    multiple=True,
    metavar="TASK",
    help="Workers enqueue this task of another queue too, and with --plans producers plan for that queue. "
    "May be repeated.",
)
@click.option("--plugins/--no-plugins", default=True, help="Also for the tasks of installed plugins.")
@click.option("--json", is_flag=True, help="Print JSON.")
@verbose_option
def acl(
    apps: tuple[str, ...],
    queue: tuple[str, ...],
    role: str | None,
    keys: bool,
    plans: bool,
    enqueues: tuple[str, ...],
    plugins: bool,
    json: bool,
) -> None:
    """Print the NATS permissions that producers and workers need for the tasks that the modules APP define.

    A producer enqueues the tasks with any option and waits for results. A worker runs whatever stands in their queues.
    The role `cancel` looks at workflows and cancels them; `operator` also retries them, and may do what a worker may.
    None of them may make or remove streams: run `jetq setup` first, as a user who may.
    """
    app = choose_app(*apps)
    if plugins:
        app.load_plugins()
    found = permissions(app, queues=queue, keys=keys, plans=plans, enqueues=enqueues)
    found = {name: found[name] for name in (ROLES[:2] if role is None else [role])}
    if json:
        echo_json({role: _as_json(allowed) for role, allowed in found.items()})
    else:
        click.echo(render(found), nl=False)


def permissions(
    app: Jetq,
    *,
    queues: Collection[str] = (),
    keys: bool = False,
    plans: bool = False,
    enqueues: Collection[str] = (),
) -> Mapping[str, Permissions]:
    """Return the permissions that users of the app's tasks need, by role. Raises Failed without tasks, and for a task
    in `enqueues` that the app does not have."""
    subjects, inbox = Subjects(app.settings.namespace), app.settings.inbox_prefix
    levelled = {name for name, queue in app.queues.items() if queue.levels is not None}
    every = {
        name: Enqueued(task.queue, name, keys=keys or task.declared.key is not None, levels=task.queue in levelled)
        for name, task in sorted(app.tasks.items())
    }
    tasks = [task for task in every.values() if not queues or task.queue in queues]
    if not tasks:
        raise Failed("there are no tasks, so nothing is to be permitted", hint="name the module that defines them")
    if unknown := sorted(set(enqueues) - set(every)):
        raise Failed(f"there is no task {unknown[0]!r} to be enqueued", hint=f"there are {', '.join(every)}")
    elsewhere = [every[name] for name in enqueues]
    served = {task.queue: task.levels for task in tasks}
    domain = app.settings.jetstream_domain
    return {
        "producer": of_producer(
            subjects,
            inbox,
            tasks,
            watch=WATCH if plans else None,
            plans_for=[task.queue for task in elsewhere],
            domain=domain,
        ),
        "worker": of_worker(subjects, inbox, served, enqueues=elsewhere, domain=domain),
        "cancel": of_canceller(subjects, inbox, served, WATCH, domain=domain),
        "operator": of_operator(subjects, inbox, served, enqueues=elsewhere, domain=domain),
    }


def render(found: Mapping[str, Permissions]) -> str:
    """Return permissions by role as text of a nats-server configuration."""
    blocks = [
        f"JETQ_{role.upper()}: {{\n"
        f"  publish: {{ allow: [\n{_lines(allowed.publish)}  ] }}\n"
        f"  subscribe: {{ allow: [\n{_lines(allowed.subscribe)}  ] }}\n"
        + ("  allow_responses: true\n" if allowed.responses else "")
        + "}\n"
        for role, allowed in found.items()
    ]
    return "\n".join([_HOW, *blocks])


def _lines(subjects: Collection[str]) -> str:
    return "".join(f"    {json.dumps(subject)}\n" for subject in subjects)


def _as_json(allowed: Permissions) -> dict[str, object]:
    return {
        "publish": {"allow": allowed.publish},
        "subscribe": {"allow": allowed.subscribe},
        **({"allow_responses": True} if allowed.responses else {}),
    }
