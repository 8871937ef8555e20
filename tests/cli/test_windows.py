"""Windows' shells leave globs to programs: those among the photos are expanded, those of flags are not."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click
import pytest

from srbatch import entry


def test_globs_of_flags_reach_them_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    seen = []

    @click.command()
    @click.option("--exclude")
    @click.argument("names", nargs=-1)
    def command(exclude: str, names: tuple[str, ...]) -> None:
        seen.append((exclude, names))

    monkeypatch.setattr(sys, "argv", ["command", "--exclude", "*.jpg", "IMG[1].jpg", "$HOME"])
    with monkeypatch.context() as windows, contextlib.suppress(SystemExit):
        windows.setattr(os, "name", "nt")
        entry.run_command(command, None, "command")
    assert seen == [("*.jpg", ("IMG[1].jpg", "$HOME"))]


@pytest.mark.parametrize(
    ("platform", "given", "taken"),
    [
        ("win32", ["*.jpg"], ["IMG1.jpg", "IMG[1].jpg", "b.jpg"]),
        ("win32", ["IMG[1].jpg"], ["IMG[1].jpg"]),
        ("win32", ["*.gif", "b.jpg"], ["*.gif", "b.jpg"]),
        ("linux", ["*.jpg"], ["*.jpg"]),
    ],
)
def test_photos_may_be_named_by_globs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, given: list[str], taken: list[str]
) -> None:
    for name in ("b.jpg", "IMG1.jpg", "IMG[1].jpg", "c.png"):
        (tmp_path / name).write_bytes(b"")
    context = click.Context(click.Command("command"))
    monkeypatch.setattr(sys, "platform", platform)
    found = entry.with_globs_expanded(context, click.Argument(["inputs"]), tuple(tmp_path / n for n in given))
    assert [path.name for path in found] == taken
