"""What one app stores, sealed and opened by the app's codec, each for what it belongs to."""

from __future__ import annotations

from jetq.encoding.sealing import PayloadCodec, PayloadContext, opened, sealed

__all__ = ["Sealer"]


class Sealer:
    """Seals the arguments and results of one app's jobs, and the plans and marks of its workflows, and opens them.

    codec: the app's payload codec; None if the app has none, and payloads are stored as they are. A body is JSON before
    it is sealed, and as stored before it is opened. All methods raise BadPayload for a body that the codec cannot seal
    or open.
    """

    def __init__(self, codec: PayloadCodec | None) -> None:
        self.codec = codec

    def seal_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """Return the arguments of a job of `task` in `queue` as they are stored."""
        return sealed(self.codec, body, PayloadContext("arguments", task, queue=queue))

    def open_arguments(self, task: str, queue: str, body: bytes) -> bytes:
        """Return the JSON of the stored arguments of a job of `task` in `queue`."""
        return opened(self.codec, body, PayloadContext("arguments", task, queue=queue))

    def seal_result(self, task: str, id: str, body: bytes) -> bytes:
        """Return the result of job `id` of `task` as it is stored."""
        return sealed(self.codec, body, PayloadContext("result", task, id=id))

    def open_result(self, task: str, id: str, body: bytes) -> bytes:
        """Return the JSON of the stored result of job `id` of `task`."""
        return opened(self.codec, body, PayloadContext("result", task, id=id))

    def seal_plan(self, workflow: str, life: str, body: bytes) -> bytes:
        """Return a plan as it is stored."""
        return sealed(self.codec, body, PayloadContext("plan", workflow=workflow, life=life))

    def open_plan(self, workflow: str, life: str, body: bytes) -> bytes:
        """Return the JSON of a stored plan."""
        return opened(self.codec, body, PayloadContext("plan", workflow=workflow, life=life))

    def seal_chunk(self, workflow: str, life: str, step: str, chunk: str, body: bytes) -> bytes:
        """Return arguments of the members of a step as they are stored beside the plan. chunk: which ones."""
        return sealed(self.codec, body, PayloadContext("plan", workflow=workflow, life=life, step=step, id=chunk))

    def open_chunk(self, workflow: str, life: str, step: str, chunk: str, body: bytes) -> bytes:
        """Return the JSON of stored arguments of the members of a step."""
        return opened(self.codec, body, PayloadContext("plan", workflow=workflow, life=life, step=step, id=chunk))

    def seal_kept(self, workflow: str, life: str, body: bytes) -> bytes:
        """Return the value of a workflow as it is kept in the place of its plan."""
        return sealed(self.codec, body, PayloadContext("plan", workflow=workflow, life=life, id="value"))

    def open_kept(self, workflow: str, life: str, body: bytes) -> bytes:
        """Return the JSON of the value of a workflow that is kept in the place of its plan."""
        return opened(self.codec, body, PayloadContext("plan", workflow=workflow, life=life, id="value"))

    def seal_mark(self, life: str, step: str, member: int, body: bytes) -> bytes:
        """Return the value of a member as it is stored."""
        return sealed(self.codec, body, PayloadContext("mark", life=life, step=step, member=member))

    def open_mark(self, life: str, step: str, member: int, body: bytes) -> bytes:
        """Return the JSON of the stored value of a member."""
        return opened(self.codec, body, PayloadContext("mark", life=life, step=step, member=member))

    def seal_failure(self, life: str, step: str, member: int, body: bytes) -> bytes:
        """Return the failure of a member as it is stored."""
        return sealed(self.codec, body, PayloadContext("mark", life=life, step=step, member=member, id="failure"))

    def open_failure(self, life: str, step: str, member: int, body: bytes) -> bytes:
        """Return the JSON of the stored failure of a member."""
        return opened(self.codec, body, PayloadContext("mark", life=life, step=step, member=member, id="failure"))
