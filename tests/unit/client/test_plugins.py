"""Plugins: modules of installed distributions that define tasks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from jetq.client.plugins import installed, load, unready_queues
from jetq.client.registry import IMPORTED
from jetq.errors import PluginError
from tests.apps.fresh import own_tasks


class Install(Protocol):
    """Puts a distribution with modules and entry points on the path."""

    def __call__(self, distribution: str, entries: dict[str, str], **modules: str) -> None: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    modules_before = set(sys.modules)
    own_tasks(monkeypatch, and_those_of_others=True)
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, entries: dict[str, str], **modules: str) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {module}" for name, module in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[jetq.tasks]", *lines]))
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)

    yield install
    for name in set(sys.modules) - modules_before:
        if not name.startswith("jetq."):  # of which other tests hold parts
            del sys.modules[name]


def task_module(name: str) -> str:
    return f"from jetq import task\n\n@task(name={name!r})\ndef f() -> None: ...\n"


def test_they_are_listed_without_being_imported(install: Install) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop="raise SystemExit")
    shop = next(plugin for plugin in installed() if plugin.name == "shop")
    assert (shop.module, shop.distribution, shop.version, shop.tasks) == ("acme_shop", "acme-shop", "1.0", ())


@pytest.mark.parametrize("allowed", ["shop", "acme-shop", "Acme_Shop"])
def test_loading_imports_what_is_allowed_and_again_changes_nothing(install: Install, allowed: str) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop=task_module("shop.f"))
    install("acme-bank", {"bank": "acme_bank"}, acme_bank=task_module("bank.f"))
    for _ in range(2):
        (shop,) = load([allowed])
        assert shop.tasks == ("shop.f",)
    assert "shop.f" in IMPORTED
    assert "bank.f" not in IMPORTED


def test_tasks_of_the_modules_it_imports_are_its_own(install: Install, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from pack import deep")
    (tmp_path / "pack" / "deep.py").write_text(task_module("deep.f"))
    install("acme-pack", {"pack": "pack"})
    assert load(["pack"])[0].tasks == load(["pack"])[0].tasks == ("deep.f",)


@pytest.mark.parametrize("name", ["acme_a", "acme_z"])
def test_one_may_use_the_tasks_of_another(install: Install, tmp_path: Path, name: str) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from pack.tasks import f")
    (tmp_path / "pack" / "tasks.py").write_text(task_module("pack.f"))
    install("acme-pack", {"pack": "pack.tasks"})
    install("acme-user", {name: name}, **{name: "from pack import f as theirs\n" + task_module("user.f")})
    for _ in range(2):
        tasks = {plugin.name: plugin.tasks for plugin in load(["pack", name])}
        assert tasks == {"pack": ("pack.f",), name: ("user.f",)}


def test_two_with_one_task_name_are_both_named(install: Install) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop=task_module("pay"))
    install("acme-bank", {"bank": "acme_bank"}, acme_bank=task_module("pay"))
    for _ in range(2):  # whichever was imported before
        with pytest.raises(PluginError, match="acme-bank and acme-shop both define the task 'pay'"):
            load(["shop", "bank"])


def test_a_task_the_application_has_already_is_named_by_its_module(install: Install, tmp_path: Path) -> None:
    (tmp_path / "own_tasks.py").write_text(task_module("pay"))
    install("acme-bank", {"bank": "acme_bank"}, acme_bank="import own_tasks\n" + task_module("pay"))
    with pytest.raises(PluginError, match="module own_tasks and acme-bank both define the task 'pay'"):
        load(["bank"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from jetq import task\n@task(max_attempts=0)\ndef f(): ...", "DefinitionError: max_attempts"),
    ],
)
def test_one_that_cannot_be_imported_names_its_distribution(install: Install, source: str, reason: str) -> None:
    install("acme-bad", {"bad": "acme_bad"}, acme_bad=source)
    with pytest.raises(PluginError) as caught:
        load(["bad"])
    assert f"plugin 'bad' of acme-bad 1.0 cannot be imported: {reason}" in str(caught.value)


def test_one_that_is_not_installed_is_told_with_those_that_are(install: Install) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop="")
    with pytest.raises(PluginError, match=r"there is no plugin 'shp'\nhint: installed: .*acme-shop"):
        load(["shp"])


READY = (
    task_module("shop.f")
    + """
import os
from jetq import SettingsError
def jetq_ready():
    if "SHOP_TOKEN" not in os.environ:
        raise SettingsError("there is no token for the shop", hint="set SHOP_TOKEN")
"""
)


def test_one_says_what_its_tasks_need_here(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop=READY)
    (shop,) = load(["shop"])
    assert shop.lacks == "there is no token for the shop; set SHOP_TOKEN"
    own = {"shop.f": IMPORTED["shop.f"]}
    assert unready_queues([shop], own) == {"default": shop}
    monkeypatch.setenv("SHOP_TOKEN", "x")
    (shop,) = load(["shop"])
    assert shop.lacks is None
    assert unready_queues([shop], own) == {}


def test_one_that_the_application_has_imported_before_says_it_too(install: Install, tmp_path: Path) -> None:
    """Guarantee: a worker leaves the queue of a plugin that is not ready to others, whatever was imported before."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from pack.tasks import f, other")
    (tmp_path / "pack" / "more.py").write_text(task_module("more.f"))
    (tmp_path / "pack" / "tasks.py").write_text(READY + "\nfrom pack.more import f as other\n")
    install("acme-pack", {"pack": "pack.tasks"})
    importlib.import_module("pack")
    (pack,) = load(["pack"])
    assert pack.tasks == ("more.f", "shop.f")
    assert unready_queues([pack], {name: IMPORTED[name] for name in pack.tasks}) == {"default": pack}


def test_the_tasks_of_jetq_email_are_its_own_though_it_was_imported_before() -> None:
    import jetq_email

    assert jetq_email.send_email.name in IMPORTED
    (email,) = load(["email"])
    assert {name for name in IMPORTED if name.startswith("jetq_email.")} == set(email.tasks)


def test_a_queue_with_other_tasks_in_it_is_served(install: Install) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop=READY)
    install("acme-bank", {"bank": "acme_bank"}, acme_bank=task_module("bank.f"))
    loaded = load(["shop", "bank"])
    assert unready_queues(loaded, {name: IMPORTED[name] for name in ("shop.f", "bank.f")}) == {}


def test_one_that_cannot_say_whether_it_is_ready_is_named(install: Install) -> None:
    install("acme-shop", {"shop": "acme_shop"}, acme_shop=f"{task_module('shop.f')}\ndef jetq_ready(): 1 / 0\n")
    with pytest.raises(PluginError, match=r"acme-shop 1.0 does not say whether it is ready: ZeroDivisionError"):
        load(["shop"])
