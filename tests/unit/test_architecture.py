"""The floors of the package, held against what its modules really import."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jetq

ROOT = Path(__file__).parents[2]

FLOORS = {
    8: "jetq jetq.__main__ jetq.cli jetq.testing",
    7: "jetq.worker",
    6: "jetq.client",
    5: "jetq.jetstream jetq.memory jetq.operations",
    4: "jetq.broker jetq.encoding jetq.settings",
    3: "jetq.model jetq.server",
    2: "jetq.errors",
    1: "jetq.units jetq.migration_hints jetq.runtime",
}
"""Every module's floor; a package's floor is that of all its modules."""

MAIL_FLOORS = {
    9: "jetq_email jetq_email.cli jetq_email.webhooks",
    8: "jetq_email.tasks",
    7: "jetq_email.sending",
    6: "jetq_email.routing",
    5: "jetq_email.transports jetq_email.feedback jetq_email.unsubscribe"
    " jetq_email.mail_log jetq_email.preferences jetq_email.dkim_keys",
    4: "jetq_email.settings jetq_email.dkim jetq_email.suppression jetq_email.templates",
    3: "jetq_email.providers",
    2: "jetq_email.message jetq_email.outcomes",
    1: "jetq_email.errors jetq_email.plaintext jetq_email.rates jetq_email.redaction jetq_email.running_job"
    " jetq_email.secret",
}
"""The same of the mail plugin, where parts of one floor know nothing of each other."""

SIBLINGS = set(FLOORS[5].split())
"""Parts that know nothing of each other: two brokers, and what is done over either."""

FLOOR_OF = {
    name: floor for floors in (FLOORS, MAIL_FLOORS) for floor, names in floors.items() for name in names.split()
}
LONGEST = 500
"""Lines of a file."""

MOST_FILES = 20
"""Files of a folder."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(package: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


MODULES = sources("jetq")
PLUGIN_MODULES = sources("jetq_email")
ALL_MODULES = MODULES | PLUGIN_MODULES


def imported_names(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what `path` imports, wherever in it the import is: a dotted module, and a name of it or an empty string."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def own_imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield the modules of this project that `module` imports, each with the name it takes of it, or an empty one."""
    for target, name in imported_names(ALL_MODULES[module]):
        if target.split(".")[0] not in ("jetq", "jetq_email"):
            continue
        if f"{target}.{name}" in ALL_MODULES:
            target, name = f"{target}.{name}", ""
        assert target in ALL_MODULES, f"{module} imports {target}, which does not exist"
        yield target, name


def imports(module: str) -> set[str]:
    """The modules of this project that `module` imports."""
    return {target for target, _ in own_imports(module)} - {module}


def faces(module: str) -> set[str]:
    """Return the packages whose `__init__` runs before what `module` imports; not those that `module` lies in."""
    packages = {target[:end] for target in imports(module) for end, letter in enumerate(target) if letter == "."}
    return {package for package in packages if "." in package and not f"{module}.".startswith(f"{package}.")}


def part(module: str) -> str:
    """The module or package right below `jetq` or `jetq_email` that `module` belongs to."""
    return ".".join(module.split(".")[:2])


def floor(module: str) -> int:
    assert part(module) in FLOOR_OF, f"{part(module)} has no floor yet: give it one in FLOORS"
    return FLOOR_OF[part(module)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = floor(module)
    climbing = {target for target in imports(module) if floor(target) > own}
    assert not climbing, f"{module} (floor {own}) imports upwards"


@pytest.mark.parametrize("module", PLUGIN_MODULES)
def test_imports_of_the_mail_plugin_point_down(module: str) -> None:
    others = {target for target in imports(module) & set(PLUGIN_MODULES) if part(target) != part(module)}
    assert not {target for target in others if floor(target) >= floor(module)}, f"{module} (floor {floor(module)})"


@pytest.mark.parametrize("module", [module for module in MODULES if part(module) in SIBLINGS])
def test_siblings_know_nothing_of_each_other(module: str) -> None:
    assert not {target for target in imports(module) if part(target) in SIBLINGS - {part(module)}}


def test_no_import_is_part_of_a_circle() -> None:
    check_acyclic({module: imports(module) for module in ALL_MODULES})


def test_no_import_of_the_mail_plugin_is_part_of_a_circle_over_packages() -> None:
    """A package that offers names of its modules imports them, whichever of them is asked for."""
    check_acyclic({module: imports(module) | faces(module) for module in PLUGIN_MODULES})


def test_packages_side_by_side_import_in_one_direction() -> None:
    """So `jetq.jetstream` has floors of its own: broker over streams over transport."""
    check_acyclic({package: neighbours(package) for package in {module.rpartition(".")[0] for module in ALL_MODULES}})


def neighbours(package: str) -> set[str]:
    """The packages of the same folder from which some module of `package` imports."""
    folder = package.rpartition(".")[0]
    modules = [module for module in ALL_MODULES if f"{module}.".startswith(f"{package}.")]
    below = {target for module in modules for target in imports(module) if target.startswith(f"{folder}.")}
    packages = {".".join(target.split(".")[: package.count(".") + 1]) for target in below}
    return {each for each in packages if each != package and (ALL_MODULES[each].name == "__init__.py")}


def check_acyclic(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_only_the_jetstream_package_speaks_nats(module: str) -> None:
    if module.startswith("jetq.jetstream"):
        return
    assert not {target for target, _ in imported_names(MODULES[module]) if target.split(".")[0] == "nats"}


@pytest.mark.parametrize("module", PLUGIN_MODULES)
def test_the_mail_plugin_uses_public_names_only(module: str) -> None:
    taken = {(target, name) for target, name in own_imports(module) if target.split(".")[0] == "jetq"}
    assert taken <= {("jetq", name) for name in ("", *jetq.__all__)}


@pytest.mark.parametrize("module", ALL_MODULES)
def test_what_others_import_is_listed(module: str) -> None:
    """`__all__` says what a module is for: nobody imports another name of it."""
    unlisted = {f"{target}.{name}" for target, name in own_imports(module) if name and name not in listed_names(target)}
    assert not unlisted


def listed_names(module: str) -> set[str]:
    return set(getattr(importlib.import_module(module), "__all__", ()))


@pytest.mark.parametrize("path", [*MODULES.values(), *PLUGIN_MODULES.values()], ids=module_name)
def test_a_file_has_one_subject(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("folder", sorted({path.parent for path in ALL_MODULES.values()}), ids=str)
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES


def test_floors_list_what_is_there_and_nothing_twice() -> None:
    for floors, modules in ((FLOORS, MODULES), (MAIL_FLOORS, PLUGIN_MODULES)):
        listed = [name for names in floors.values() for name in names.split()]
        assert sorted(listed) == sorted({part(module) for module in modules})
