"""A process that shows the progress of a workflow, and cancels it: `python -m tests.apps.flow_button ID STEP MEMBERS`.

It writes lines of JSON: one when it has begun; one for each look at STEP once the workflow is stored, [done, failed,
total]; and when MEMBERS of it are done and it has cancelled the workflow what the answer was, and when that came, in
unix seconds.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress

from jetq import Jetq, JobNotFound


def main(id: str, step: str, members: int) -> None:
    flow, done = Jetq().workflow(id), 0
    _say("begun")
    while done < members:
        with suppress(JobNotFound):
            view = flow.steps()[step]
            done = view.done
            _say(view.done, view.failed, view.total)
        time.sleep(0.05)
    _say(flow.cancel(), time.time())


def _say(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
