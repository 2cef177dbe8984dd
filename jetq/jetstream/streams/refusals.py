"""What to do when the server refuses to make or store something: the server's errors say only what is wrong."""

from __future__ import annotations

__all__ = ["BATCH_IN_A_MOMENT", "HINTS", "IN_A_MOMENT", "WANTS_BOUND"]

IN_A_MOMENT = frozenset({10158, 10164, 10008})
"""Error codes of a cluster of three servers: a message of this id, or with an expectation for this subject, is in
process (10158, 10164), or JetStream is not available yet (10008)."""

BATCH_IN_A_MOMENT = IN_A_MOMENT | {10176}
"""For an atomic batch also: its leader has only a part of the batch. The leader changed or was restarted in between, or
took no more batches when this one began: a leader holds 50 batches of a stream, an unfinished one for ten seconds
(nats-server 2.15.1)."""

WANTS_BOUND = 10113

_MORE_ROOM = "give the server or the account more storage, or the streams less: max_bytes (JETQ_MAX_BYTES)"

HINTS = {
    10023: "give the server more room, or the stream fewer replicas (JETQ_REPLICAS)",
    10026: "raise the account's limit of consumers, or serve fewer queues",
    10027: "raise the account's limit of streams: each queue needs two, and each namespace two to five",
    10047: _MORE_ROOM,
    10065: "streams of others take these subjects: give jetq another namespace (JETQ_NAMESPACE)",
    10002: _MORE_ROOM,
    10054: "raise max_msg_size of the stream, or store the data elsewhere and pass its id or path",
    10077: "the stream is full: raise its max_bytes (`nats stream edit`), or remove what is old",
    10005: "are as many servers of the cluster there as JETQ_REPLICAS asks for?",
    10074: "this is no cluster: leave replicas (JETQ_REPLICAS) at 1",
    WANTS_BOUND: "set max_bytes (JETQ_MAX_BYTES); of the room of the account each queue takes it twice, and each "
    "namespace twice more",
    10120: "the account has no storage for so many replicas: change JETQ_REPLICAS, or its tiered limits",
    10122: "this account allows less for a stream: lower max_bytes (JETQ_MAX_BYTES)",
}
"""What to do about the server's refusals, by error code. They were seen with nats-server 2.15.1, except 10005, 10023,
10077 and 10120, which are taken from the server's list of errors."""
