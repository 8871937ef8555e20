"""Who imports whom: in one direction only, and the plain modules nobody."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import srbatch
import trainer

PACKAGES = {package.__name__: Path(package.__file__ or "").parent for package in (srbatch, trainer)}


def imports() -> dict[str, set[str]]:
    """The modules of ours that each imports when it is imported itself."""
    files = {
        ".".join((name, *path.relative_to(folder).with_suffix("").parts)): path
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        at_once = [s for s in ast.parse(path.read_text("utf-8")).body if isinstance(s, ast.ImportFrom)]
        named = {(s.module or "", alias.name) for s in at_once for alias in s.names}
        both = {f"{above}.{name}" if f"{above}.{name}" in files else above for above, name in named}
        found[module] = both & files.keys()
    return found


def test_imports_run_in_one_direction() -> None:
    order = list(TopologicalSorter(imports()).static_order())  # raises where there is a circle
    assert order.index("srbatch.batch") < order.index("srbatch.watch.loop")


@pytest.mark.parametrize("module", ["errors", "formats", "places", "tiling", "card", "resample"])
def test_the_plain_modules_import_none_of_ours(module: str) -> None:
    assert imports()[f"srbatch.{module}"] == set()


def test_srbatch_does_not_import_the_trainer() -> None:
    for module, below in imports().items():
        if module.startswith("srbatch."):
            assert not any(name.startswith("trainer.") for name in below), module
