"""What runs are watched by in tests, and a fault of theirs."""

from __future__ import annotations

import sqlite3
from typing import Any

from srbatch.discovery.found import Found, Photo
from srbatch.reporting.outcome import Outcome, Summary
from srbatch.reporting.report import Silent


class Listener(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.summary: Summary | None = None
        self.pixels = 0.0
        self.owns = False

    def found(self, found: Found) -> None:
        self.owns = True

    def progress(self, photo: Photo, pixels: float) -> None:
        self.pixels += pixels

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def end(self, summary: Summary) -> None:
        self.summary = summary

    def by_name(self) -> dict[str, Outcome]:
        return {outcome.photo.source.name: outcome for outcome in self.outcomes}


class Killed(BaseException):
    """What nothing of ours catches."""


def killed(*_: Any) -> None:
    """In the place of a step that is not reached."""
    raise Killed


def ledger_is_full(*_: Any) -> None:
    """In the place of what writes a row."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error
