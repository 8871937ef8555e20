"""Progress for people at a terminal."""

from __future__ import annotations

import logging
import os
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from srbatch.discovery.found import Found, Photo
from srbatch.names import show
from srbatch.reporting.outcome import Outcome, Summary, duration, outcome_line, summary_lines
from srbatch.reporting.report import Pace, Silent, found_line

_STYLES = {"done": "", "failed": "bold red", "skipped": "dim"}


class Terminal(Silent):
    """A line for the run, by megapixels, and one for the photos in hand; failures and notes scroll above."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or screen(stderr=True, highlight=False, soft_wrap=True)
        self._pace = Pace(0)
        self._photos = self._ended = 0
        self._run = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            expand=True,
        )
        self._run_task: TaskID | None = None
        self._current = Text("", overflow="ellipsis", no_wrap=True)
        self._live = Live(Group(self._current, self._run), console=self.console, refresh_per_second=5)

    def found(self, found: Found) -> None:
        if line := found_line(found):
            self.console.print(Text(line))

    def begin(self, photos: int, pixels: int) -> None:
        self._pace, self._photos = Pace(pixels), photos
        self._run_task = self._run.add_task("all", total=pixels, text="")
        self._live.start()

    def started(self, photo: Photo, pixels: int) -> None:
        self._pace.started(photo, pixels)
        self._refresh()

    def progress(self, photo: Photo, pixels: float) -> None:
        self._pace.progress(photo, pixels)
        self._refresh()

    def finished(self, outcome: Outcome) -> None:
        if self._run_task is not None:
            self._pace.finished(outcome.photo)
            self._ended += 1
            self._refresh()
        if outcome.status == "failed" or outcome.notes:
            self.console.print(Text(outcome_line(outcome), style=_STYLES[outcome.status]))

    def end(self, summary: Summary) -> None:
        self._live.update(self._run)
        self._live.stop()
        for line in summary_lines(summary):
            self.console.print(Text(line, style="red" if line.startswith("  failed") else ""))

    def _refresh(self) -> None:
        self._current.plain = _in_hand(self._pace)
        if self._run_task is None:
            return
        pace = self._pace
        left = f", {duration(pace.left_s)} to go" if pace.left_s is not None else ""
        self._run.update(
            self._run_task,
            description=f"{self._ended}/{self._photos}",
            completed=pace.done,
            text=f"{pace.done / 1e6:.1f}/{pace.pixels / 1e6:.1f} MP, {pace.rate / 1e6:.3f} MP/s{left}",
        )


def screen(**settings: Any) -> Console:
    """A console of rich's with these settings; a size in the environment that is none does not count.

    In one of 0 columns it would show nothing at all.
    """
    environ = dict(os.environ)
    for name in ("COLUMNS", "LINES"):
        if not environ.get(name, "").strip("0").isdecimal():
            environ.pop(name, None)
    return Console(**settings, _environ=environ)


def _in_hand(pace: Pace) -> str:
    """How far the photo is that the device works on, and how many others were begun."""
    in_device = [(photo, known) for photo, known in pace.in_hand.items() if 0 < known.done < known.pixels]
    others = len(pace.in_hand) - len(in_device)
    shown = ", ".join(
        f"{known.done / known.pixels:4.0%} {show(photo.relative)}" for photo, known in in_device
    )
    beside = f"{others} {'more ' if shown else ''}in hand" if others else ""
    return "   ".join(text for text in (shown, beside) if text)


def log_to(console: Console) -> None:
    """Send log records through the console, above the progress."""
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logging.basicConfig(format="%(message)s", handlers=[handler], force=True)
