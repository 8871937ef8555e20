"""What a person sees at a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from srbatch.discovery.found import Photo
from srbatch.formats import Format
from srbatch.reporting.outcome import Outcome, Summary
from srbatch.reporting.terminal import Terminal


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def photo(name: str) -> Photo:
    return Photo(Path(name), Path(name), Path("out") / name, Format.JPEG, 1, 1)


def test_progress_by_megapixels_and_failures_above_it(screen: io.StringIO) -> None:
    terminal = Terminal(Console(file=screen, force_terminal=True, width=100, soft_wrap=True))
    summary = Summary()
    terminal.begin(2, 4_000_000)
    terminal.started(photo("one.jpg"), 3_000_000)
    terminal.progress(photo("one.jpg"), 1_500_000)
    terminal._live.refresh()
    assert "50% one.jpg" in screen.getvalue()
    terminal.started(photo("two.jpg"), 1_000_000)
    terminal._live.refresh()
    assert "50% one.jpg   1 more in hand" in screen.getvalue()
    assert "1.5/4.0 MP" in screen.getvalue()
    assert "to go" in screen.getvalue()
    done = Outcome(photo("one.jpg"), "done", size_in=(1000, 3000), size_out=(2000, 6000), notes=("odd",))
    failed = Outcome(photo("two.jpg"), "failed", "the file is empty", "UnreadablePhoto")
    for outcome in (done, failed):
        summary.add(outcome)
        terminal.finished(outcome)
    terminal.end(summary)
    said = screen.getvalue()
    assert "note: odd" in said
    assert "two.jpg: the file is empty" in said
    assert "1 done, 0 skipped, 1 failed" in said


@pytest.mark.parametrize("size", ["0", "", "00", "-1", "²"])
def test_a_size_of_nothing_in_the_environment_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    tty = Tty()
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, size)
    terminal, summary = Terminal(), Summary()
    terminal.begin(1, 1)
    failed = Outcome(photo("two.jpg"), "failed", "the file is empty", "UnreadablePhoto")
    summary.add(failed)
    terminal.finished(failed)
    terminal.end(summary)
    assert "two.jpg: the file is empty" in tty.getvalue()
    assert "0 done, 0 skipped, 1 failed" in tty.getvalue()


def test_a_size_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert Terminal().console.width == 100


def test_nothing_to_do_shows_no_bar(screen: io.StringIO) -> None:
    terminal = Terminal(Console(file=screen, force_terminal=True, width=100))
    terminal.end(Summary())
    assert "0 done" in screen.getvalue()
    assert "MP" not in screen.getvalue()


def test_names_that_look_like_markup_are_shown_as_they_are(screen: io.StringIO) -> None:
    terminal = Terminal(Console(file=screen, force_terminal=True, width=100, soft_wrap=True))
    terminal.begin(1, 1)
    terminal.started(photo("[red]x[/red].jpg"), 1)
    terminal.finished(Outcome(photo("[red]x[/red].jpg"), "failed", "[b]no[/b]", "UnreadablePhoto"))
    terminal.end(Summary())
    assert "[red]x[/red].jpg: [b]no[/b]" in screen.getvalue()
