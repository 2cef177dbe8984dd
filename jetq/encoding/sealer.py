"""Arguments and results of one app's jobs, sealed and opened by the app's codec, each for what it belongs to."""

from __future__ import annotations

from jetq.encoding.sealing import PayloadCodec, PayloadContext, opened, sealed

__all__ = ["Sealer"]


class Sealer:
    """Seals the arguments and results of one app's jobs, and opens them again.

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
