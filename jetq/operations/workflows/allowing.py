"""For which queues the creator of a workflow may plan: whoever stores a job in another queue than the home looks."""

from __future__ import annotations

from jetq.errors import Denied
from jetq.model.workflows import names
from jetq.operations.workflows.life import Life

__all__ = ["allow", "not_allowed"]


async def allow(life: Life, task: str, queue: str) -> None:
    """Note that `queue`, of which the plan names `task`, may be planned for: nobody can write that who may not plan for
    the queue. Raises Denied, by name, for a NATS user that may not."""
    if queue in life.allowed:
        return
    try:
        written = await life.broker.write_entry(names.allowance(life.id, queue), b"", ttl=life.ttl)
    except Denied as error:
        raise Denied(
            error.subject,
            message=f"{not_allowed(life, task, queue, life.actor)}: no permission to publish to {error.subject}",
            hint=f"`jetq setup acl --plans -q {queue}` prints the permissions that plans for that queue need",
        ) from None
    if written is not None:
        life.saw(written)
    life.allowed.add(queue)


def not_allowed(life: Life, task: str, queue: str, who: str = "its creator") -> str:
    """Return in words that the plan names a task of a queue for which `who` may not plan."""
    return f"plan {life.workflow} names {task}, but {who} may not plan for queue {queue}"
