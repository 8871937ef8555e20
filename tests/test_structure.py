"""Who imports whom, and who may end the process: what DESIGN lays out, read from the source itself."""

from __future__ import annotations

import ast
import functools
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import srbatch
import trainer

FILES = {
    ".".join((package.__name__, *path.relative_to(folder).with_suffix("").parts)): path
    for package in (srbatch, trainer)
    for folder in [Path(package.__file__ or "").parent]
    for path in folder.rglob("*.py")
}

OWNERS = {
    "pyvips": "codecs.encode codecs.light codecs.loading codecs.picture",
    "PIL": "codecs.loading metadata.profiles reporting.sheet trainer",
    "pebble": "codecs.codec_pool",
    "sqlite3": "outputs.commit outputs.group_commit outputs.ledger outputs.ledger_errors",
    "watchdog": "watch.events",
    "rich": "reporting.terminal watch.live_view",
    "click": "cli entry flags trainer",
    "openvino": "upscaling.openvino_graph",
    "triton": "upscaling.fused",
    "safetensors": "weights trainer",
    "fastai": "trainer",
    "torchvision": "trainer",
    "trainer": "trainer",
    "srbatch.cli": "__main__",
    "srbatch.watch": "cli watch",
    "srbatch.entry": "cli flags trainer",
    "srbatch.run": "cli watch",
    "srbatch.batch": "run watch",
}
"""What alone imports each, in functions too; ``watch`` and ``trainer`` stand for all of their modules."""

PLAIN = {
    "errors": "",
    "formats": "",
    "names": "srbatch.errors",
    "places": "",
    "card": "",
    "placement": "",
    "upscaling.resample": "",
    "upscaling.tiling": "",
    "options": "srbatch.card srbatch.errors srbatch.formats",
}
"""All of ours that plain modules import."""


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    """All that runs: what is imported for types alone is not."""
    found: list[ast.AST] = [ast.parse(FILES[module].read_text("utf-8"))]
    for node in found:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            found += ast.iter_child_nodes(node)
    return found


@functools.cache
def imported(module: str) -> set[str]:
    """Dotted names of all that it imports, in functions too; ``from a import b`` is ``a.b``."""
    found = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports are not followed here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def mentioned(module: str) -> set[str]:
    """Names, also dotted ones, that its expressions hold."""
    return {ast.unparse(node) for node in nodes(module) if isinstance(node, ast.Attribute | ast.Name)}


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def ours(module: str) -> set[str]:
    """The modules of ours that it imports; a package's own file is none, as it does nothing."""
    names = {above for name in imported(module) for above in (name, name.rpartition(".")[0])}
    return names & FILES.keys()


def short(module: str, owners: set[str]) -> str:
    """As it stands in the table."""
    inside = module.removeprefix("srbatch.")
    package = inside.partition(".")[0]
    return package if package in owners else inside


def test_imports_run_in_one_direction() -> None:
    TopologicalSorter({module: ours(module) for module in FILES}).prepare()  # raises where there is a circle


def test_packages_import_each_other_in_one_direction() -> None:
    """As modules do: what lies in no package of its own may stand between them."""
    packages: dict[str, set[str]] = {}
    for module in FILES:
        package = module.rpartition(".")[0]
        if package.count("."):
            packages.setdefault(package, set()).update(
                above for name in ours(module) if (above := name.rpartition(".")[0]).count(".")
            )
    assert len(packages) > 1
    TopologicalSorter({package: used - {package} for package, used in packages.items()}).prepare()


def test_formats_of_files_need_the_standard_library_alone() -> None:
    inside = [module for module in FILES if is_within(module, "srbatch.containers")]
    assert len(inside) > 1
    for module in inside:
        assert {name.partition(".")[0] for name in imported(module)} <= {*sys.stdlib_module_names, "srbatch"}
        others = {name for name in ours(module) if not is_within(name, "srbatch.containers")}
        assert others <= {"srbatch.errors", "srbatch.placement", "srbatch"}, module


@pytest.mark.parametrize("what", OWNERS)
def test_what_few_may_know_is_imported_by_them_alone(what: str) -> None:
    owners = set(OWNERS[what].split())
    importers = {module for module in FILES if any(is_within(name, what) for name in imported(module))}
    assert {short(module, owners) for module in importers} == owners


@pytest.mark.parametrize("module", PLAIN)
def test_plain_modules_import_none_of_ours_or_plain_ones(module: str) -> None:
    assert ours(f"srbatch.{module}") == set(PLAIN[module].split())


@pytest.mark.parametrize(
    ("way", "modules"),
    [
        ("sys.exit", {"srbatch.cli", "srbatch.entry", "trainer.__main__"}),
        (
            "os._exit",
            {"srbatch.__main__", "srbatch.codecs.codec_pool", "srbatch.entry", "srbatch.watch.control"},
        ),
        ("SystemExit", set()),
        ("exit", set()),
        ("quit", set()),
    ],
)
def test_the_process_is_ended_by_few(way: str, modules: set[str]) -> None:
    assert {module for module in FILES if way in imported(module) | mentioned(module)} == modules
