"""Outcomes of photos, and a clock that the test moves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from srbatch.discovery.found import Found, Photo
from srbatch.formats import Format
from srbatch.reporting import report
from srbatch.reporting.outcome import Outcome, Summary
from srbatch.reporting.report import Reporter

R = TypeVar("R", bound=Reporter)
ODD_NAMES = [
    "two\nlines.jpg",
    "tab\tand \"quotes\", 'commas'; .jpg",
    "🌅 é.jpg",
    "\x1b[2J.jpg",
    "\r.jpg",
    os.fsdecode(b"caf\xe9 \xff.jpg"),
]


def photo(name: str = "a.jpg") -> Photo:
    return Photo(Path("photos") / name, Path(name), Path("hi") / name, Format.JPEG, 1000, 1)


def done(name: str = "a.jpg", **changes: object) -> Outcome:
    outcome = Outcome(
        photo(name), "done", seconds=1.23456, size_in=(300, 400), size_out=(1200, 1600), bytes_out=5678
    )
    return replace(outcome, **changes)  # type: ignore[arg-type]


def failed(name: str = "a.jpg", reason: str = "it is damaged") -> Outcome:
    return Outcome(photo(name), "failed", reason, "UnreadablePhoto")


def skipped(name: str = "a.jpg", reason: str = "done before, and nothing has changed") -> Outcome:
    return Outcome(photo(name), "skipped", reason)


def summary_of(*outcomes: Outcome) -> Summary:
    summary = Summary()
    for outcome in outcomes:
        summary.add(outcome)
    return summary


def begun(reporter: R) -> R:
    """A report as it is once its run owns the output folder."""
    reporter.found(Found())
    return reporter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=made.monotonic))
    return made
