"""Tools for testing code that uses jetq, with a broker in memory, or with a nats-server that the tests start.

With pytest there is nothing to import, because the fixtures are installed with jetq:

    def test_signing_up_welcomes(jetq_app):
        sign_up("ada@example.com")

        jetq_app.assert_enqueued(send_welcome, to="ada@example.com")
        assert jetq_app.run_until_empty().succeeded == 1

`jetq_app` is an `AppTester` for the default app: encoding, decoding, retries, dead letters and workers are the real
ones, only the broker is not. Its time passes only when a test calls `advance`. `jetq_app_real` is a `ServerTester` for
the default app on a real nats-server. With `jetq_inline`, and without pytest in `with inline(app):`, each job runs
where it is enqueued. `run` runs a workflow with a clock and faults of its own. `jetq.testing.faults` makes things go
wrong.
"""

from __future__ import annotations

from jetq.testing.enqueued import EnqueuedJob
from jetq.testing.flows import Flow, StepRun, run
from jetq.testing.inline import inline
from jetq.testing.observed import Ran
from jetq.testing.performed import Performed
from jetq.testing.tester import AppTester, ServerTester, in_memory, on_server

__all__ = [
    "AppTester",
    "EnqueuedJob",
    "Flow",
    "Performed",
    "Ran",
    "ServerTester",
    "StepRun",
    "in_memory",
    "inline",
    "on_server",
    "run",
]
