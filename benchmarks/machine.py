"""What figures depend on, and what the kernel says of a process. Memory and CPU time are those of Linux."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from jetq.server import find_server

__all__ = ["cpu_seconds", "environment", "own_memory", "resident"]

_PACKAGES = {"jetq": "jetq-nats", "nats-py": "nats-py", "msgspec": "msgspec"}


def environment(*, uvloop: bool) -> dict[str, str | int]:
    """Machine, versions and date."""
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        "python": platform.python_version(),
        "loop": "uvloop" if uvloop else "asyncio",
        **{name: importlib.metadata.version(package) for name, package in _PACKAGES.items()},
        "nats-server": server.strip().rpartition("v")[2],
    }


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def resident(pid: int) -> float:
    """Megabytes (of 1,000,000 bytes) that a process has in memory."""
    return _status(pid, "VmRSS")


def own_memory(pid: int) -> float:
    """Megabytes that it has of its own: without files, which is what the ledger is."""
    return _status(pid, "RssAnon")


def _status(pid: int, field: str) -> float:
    found = re.search(rf"{field}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, field
    return int(found[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have taken, in seconds."""
    taken = [task.read_text().split()[0] for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, taken)) / 1e9
