"""The floors of the package, held against what its modules really import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jetq

ROOT = Path(__file__).parents[2]

FLOORS = {
    5: "jetq jetq.__main__ jetq.cli jetq.testing jetq.server",
    4: "jetq.supervisor jetq.worker jetq.executor jetq.settlement jetq.attempt jetq.control jetq.pool jetq.leases"
    " jetq.ticks jetq.keeping jetq.overdue jetq.intake jetq.process_pool jetq.process_child jetq.process_frames"
    " jetq.limits jetq.gate jetq.slots jetq.pace jetq.presence jetq.health jetq.loop_watch jetq.first_step jetq.ahead"
    " jetq.suspects jetq.ending jetq.lifespan jetq.lost jetq.stopping"
    " jetq.handover jetq.needs jetq.calling jetq.outcome_log",
    3: "jetq.app jetq.task jetq.job jetq.client jetq.session jetq.direct_line jetq.registry jetq.config jetq.keys"
    " jetq.plugins jetq.dead_letters jetq.inspect jetq.cancelling jetq.diagnosis jetq.moving jetq.schedules"
    " jetq.records jetq.task_schedules jetq.doctor jetq.findings jetq.monitoring jetq.own_threads jetq.whose",
    2: "jetq.jetstream jetq.memory",
    1: "jetq.broker jetq.shared jetq.steady",
    0: "jetq.errors jetq.units jetq.names jetq.model jetq.wire jetq.codec jetq.settings jetq.options jetq.policy"
    " jetq.failures jetq.context jetq.fidelity jetq.shown jetq.timetable jetq.questions jetq.schedule jetq.queue"
    " jetq.rate jetq.annotations jetq.secret jetq.sealing jetq.bounds jetq.survey jetq.exported jetq.editing jetq.forks"
    " jetq.kept jetq.extended jetq.hooks jetq.own_types jetq.fitting jetq.wrappers jetq.foreign_words jetq.checks",
}
"""Every module's floor; a package's floor is that of all its modules."""

FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
LONGEST = 500


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(package: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


MODULES = sources("jetq")
PLUGIN_MODULES = sources("jetq_email")


def imported_names(path: Path) -> Iterator[str]:
    """The dotted names `path` imports, wherever in it they stand; of `from a import b`, `a.b`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(dotted: str) -> str:
    """The module that `dotted` names, or names something in."""
    name = dotted
    while name not in MODULES:
        assert "." in name, f"{dotted} is imported and does not exist"
        name = name.rpartition(".")[0]
    return name


def imports(module: str) -> set[str]:
    """The modules of jetq that `module` imports."""
    names = (name for name in imported_names(MODULES[module]) if name.split(".")[0] == "jetq")
    return {module_of(name) for name in names} - {module}


def part(module: str) -> str:
    """The module or package right below `jetq` that `module` belongs to."""
    return ".".join(module.split(".")[:2])


def floor(module: str) -> int:
    assert part(module) in FLOOR_OF, f"{part(module)} has no floor yet: give it one in FLOORS"
    return FLOOR_OF[part(module)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = floor(module)
    climbing = {target for target in imports(module) if floor(target) > own}
    assert not climbing, f"{module} (floor {own}) imports upwards"


def test_no_import_is_part_of_a_circle() -> None:
    graph = {module: imports(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_only_the_jetstream_package_speaks_nats(module: str) -> None:
    if module.startswith("jetq.jetstream"):
        return
    assert not {name for name in imported_names(MODULES[module]) if name.split(".")[0] == "nats"}


@pytest.mark.parametrize("module", PLUGIN_MODULES)
def test_the_mail_plugin_uses_public_names_only(module: str) -> None:
    public = {"jetq", *(f"jetq.{name}" for name in jetq.__all__)}
    assert {name for name in imported_names(PLUGIN_MODULES[module]) if name.split(".")[0] == "jetq"} <= public


@pytest.mark.parametrize("path", [*MODULES.values(), *PLUGIN_MODULES.values()], ids=module_name)
def test_a_file_has_one_subject(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


def test_floors_list_what_is_there_and_nothing_twice() -> None:
    listed = [name for names in FLOORS.values() for name in names.split()]
    assert sorted(listed) == sorted({part(module) for module in MODULES})
