"""A producer process: `python -m tests.apps.produce`. It enqueues a mix of jobs, waits for their results, and prints
what it stored and read, and which jetq did it, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import jetq
from jetq import Jetq
from tests.apps import ledger_tasks as tasks


async def main() -> None:
    app = Jetq()
    quick = [await tasks.quick.adelay(n) for n in range(20)]
    many = await app.adelay_many(app.call(tasks.quick.name, {"n": n}) for n in range(20, 40))
    later = [await tasks.quick.options(delay=1.0).adelay(n) for n in range(40, 50)]
    keyed = [await tasks.quick.options(key=f"key {n}").adelay(n) for n in range(50, 55)]
    limited = [await tasks.limited.adelay(n, seconds=0.01) for n in range(60, 70)]
    lucky = [await tasks.second_time_lucky.adelay(n) for n in range(70, 80)]
    other_arguments = await tasks.asks_again.adelay(1)
    failing = [await tasks.failing.options(result_ttl=600).adelay(n) for n in range(80, 83)]
    too_long = await tasks.sleeper.options(timeout=0.2, max_attempts=1, result_ttl=600).adelay(90, seconds=60.0)
    results = [await job.aresult(timeout=60) for job in lucky]
    failures = []
    for job in failing:
        try:
            await job.aresult(timeout=60)
        except ValueError as error:
            failures.append(str(error))
    await other_arguments.aresult(timeout=60)
    timeout = None
    try:
        await too_long.aresult(timeout=60)
    except Exception as error:
        timeout = type(error).__name__
    done = [job.id for job in (*quick, *many, *later, *keyed, *limited, *lucky)]
    sys.stdout.write(
        json.dumps(
            {
                "jetq": str(Path(jetq.__file__).parent),
                "done": done,
                "asked_again": other_arguments.id,
                "dead": [job.id for job in failing],
                "results": results,
                "failures": failures,
                "too_long": too_long.id,
                "timeout": timeout,
            }
        )
    )
    await app.session.aclose()


if __name__ == "__main__":
    asyncio.run(main())
