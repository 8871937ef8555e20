"""What people and machines are told while a run goes on: the terminal, plain lines, JSON, report files.

Standard output is for data (``--json``), standard error for people. Nothing else in the package prints.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from srbatch.commit import destination_error, make_folder
from srbatch.discover import Found, Photo
from srbatch.errors import ExitCode, PhotoError, UsageError, one_line
from srbatch.names import as_text, show
from srbatch.options import REPORT_SUFFIXES

_PLAIN_EVERY_S = 30.0
_MANY_FAILURES = 20


Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one photo ended. Every photo of a run has exactly one."""

    photo: Photo
    status: Status
    reason: str = ""
    error: str | None = None
    """The class of a failure."""
    seconds: float = 0.0
    size_in: tuple[int, int] | None = None
    """(height, width) of the photo, where it was read."""
    size_out: tuple[int, int] | None = None
    bytes_out: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def failure(cls, photo: Photo, error: PhotoError) -> Outcome:
        """Of a photo that cannot be done."""
        return cls(photo, "failed", str(error), type(error).__name__)

    def as_record(self) -> dict[str, Any]:
        """For JSON and CSV."""
        height_in, width_in = self.size_in or (None, None)
        height_out, width_out = self.size_out or (None, None)
        return {
            "source": as_text(self.photo.source),
            "target": as_text(self.photo.target),
            "status": self.status,
            "reason": self.reason,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "width_in": width_in,
            "height_in": height_in,
            "width_out": width_out,
            "height_out": height_out,
            "bytes_out": self.bytes_out,
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Summary:
    """The run as a whole."""

    counts: Counter[str] = field(default_factory=Counter)
    """Photos by status."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped photos by reason."""
    failures: list[Outcome] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that were passed over, by reason."""
    unreadable_folders: list[tuple[Path, str]] = field(default_factory=list)
    noted: int = 0
    """Photos done with something to note."""
    megapixels: float = 0.0
    """Of the photos done, as they were."""
    megapixels_out: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.counts[outcome.status] += 1
        if outcome.status == "failed":
            self.failures.append(outcome)
        elif outcome.status == "skipped":
            self.skipped[outcome.reason] += 1
        else:
            self.noted += bool(outcome.notes)
            self.megapixels += _megapixels(outcome.size_in)
            self.megapixels_out += _megapixels(outcome.size_out)

    @property
    def exit_code(self) -> ExitCode:
        """3 where a photo failed or a folder could not be listed."""
        return ExitCode.SOME_FAILED if self.failures or self.unreadable_folders else ExitCode.DONE


def _megapixels(size: tuple[int, int] | None) -> float:
    return size[0] * size[1] / 1e6 if size else 0.0


class Reporter(Protocol):
    """Hears of a run. Several photos may be in hand at once; the calls come one at a time."""

    def found(self, found: Found) -> None:
        """The photos of the run are known, and the output folder belongs to it. Not called for a dry run."""

    def begin(self, photos: int, pixels: int) -> None:
        """That many photos, with that many pixels, are going to be done."""

    def started(self, photo: Photo, pixels: int) -> None:
        """A photo with that many pixels is being done."""

    def progress(self, photo: Photo, pixels: float) -> None:
        """So many more pixels of it are done; fewer, where it had to start again."""

    def finished(self, outcome: Outcome) -> None:
        """A photo has ended."""

    def end(self, summary: Summary) -> None:
        """The run is over, or was interrupted."""


class Silent:
    """Hears and says nothing; the base of the others."""

    def found(self, found: Found) -> None: ...
    def begin(self, photos: int, pixels: int) -> None: ...
    def started(self, photo: Photo, pixels: int) -> None: ...
    def progress(self, photo: Photo, pixels: float) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def end(self, summary: Summary) -> None: ...


class Several(Silent):
    """Passes everything on, from whatever thread it comes, one call at a time."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = tuple(reporters)
        self._turn = threading.Lock()

    def found(self, found: Found) -> None:
        self._tell(lambda reporter: reporter.found(found))

    def begin(self, photos: int, pixels: int) -> None:
        self._tell(lambda reporter: reporter.begin(photos, pixels))

    def started(self, photo: Photo, pixels: int) -> None:
        self._tell(lambda reporter: reporter.started(photo, pixels))

    def progress(self, photo: Photo, pixels: float) -> None:
        self._tell(lambda reporter: reporter.progress(photo, pixels))

    def finished(self, outcome: Outcome) -> None:
        self._tell(lambda reporter: reporter.finished(outcome))

    def end(self, summary: Summary) -> None:
        self._tell(lambda reporter: reporter.end(summary))

    def _tell(self, what: Callable[[Reporter], None]) -> None:
        with self._turn:
            for reporter in self._reporters:
                what(reporter)


@dataclass(slots=True)
class InHand:
    """A photo that was begun."""

    pixels: int
    done: float = 0.0


class Pace:
    """How far a run is and how long it will take, by pixels: photos differ a hundredfold in size."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.in_hand: dict[Photo, InHand] = {}
        """In the order in which they were begun."""
        self._ended = 0
        self._start = time.monotonic()

    def started(self, photo: Photo, pixels: int) -> None:
        """A photo of that many pixels begins."""
        self.in_hand[photo] = InHand(pixels)

    def progress(self, photo: Photo, pixels: float) -> None:
        """So many more of its pixels are done."""
        self.in_hand[photo].done += pixels

    def finished(self, photo: Photo) -> None:
        """A photo has ended, however; all of it counts. One that was not begun counts for nothing."""
        ended = self.in_hand.pop(photo, None)
        if ended is not None:
            self._ended += ended.pixels

    @property
    def done(self) -> float:
        """Pixels done."""
        return self._ended + sum(known.done for known in self.in_hand.values())

    @property
    def rate(self) -> float:
        """Pixels per second."""
        return self.done / max(time.monotonic() - self._start, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds to go, once something is done."""
        return (self.pixels - self.done) / self.rate if self.done >= 1 else None

    def __str__(self) -> str:
        left = f", {duration(self.left_s)} to go" if self.left_s is not None else ""
        return (
            f"{self.done / 1e6:.1f} of {self.pixels / 1e6:.1f} megapixels,"
            f" {self.rate / 1e6:.3f} megapixels/s{left}"
        )


class ForPeople(Several):
    """Passes on to a reporter that people read: a terminal that goes away, or a full log, ends no run."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__([reporter])

    def _tell(self, what: Callable[[Reporter], None]) -> None:
        with contextlib.suppress(OSError):
            super()._tell(what)


class Plain(Silent):
    """Lines on standard error, for logs: each photo as it ends, and now and then how far it is."""

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._pace = Pace(0)
        self._last = time.monotonic()

    def begin(self, photos: int, pixels: int) -> None:
        self._pace = Pace(pixels)
        self._say(f"{photos} photos to do, {pixels / 1e6:.1f} megapixels")

    def started(self, photo: Photo, pixels: int) -> None:
        self._pace.started(photo, pixels)

    def progress(self, photo: Photo, pixels: float) -> None:
        self._pace.progress(photo, pixels)
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_S:
            self._last = now
            self._say(str(self._pace))

    def finished(self, outcome: Outcome) -> None:
        self._pace.finished(outcome.photo)
        if outcome.status != "skipped" or outcome.notes:
            self._say(outcome_line(outcome))

    def end(self, summary: Summary) -> None:
        for line in summary_lines(summary):
            self._write(line)

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class JsonLines(Silent):
    """One JSON object for each photo, on standard output.

    Raises:
        DestinationError: from any method, where it cannot be written.
        BrokenPipeError: nobody reads it any more.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout

    def finished(self, outcome: Outcome) -> None:
        with standard_output():
            self._stream.write(json.dumps(outcome.as_record()) + "\n")
            self._stream.flush()


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Around what is written there for machines.

    Raises:
        DestinationError: it cannot be written, on a full disk for one.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise destination_error(error, Path("standard output")) from error


class _ReportFile(Silent, ABC):
    """A file that begins anew with the run, and is flushed after each photo: a crash leaves it usable.

    A run that is refused, because another has the output folder, leaves that one's report alone.

    Raises:
        DestinationError: from any method, where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def found(self, found: Found) -> None:
        with self._explained():
            make_folder(self._path.parent)
            self._file = _new_file(self._path)
            self._head(self._file)
            self._file.flush()

    def finished(self, outcome: Outcome) -> None:
        assert self._file is not None, "found() comes first"
        with self._explained():
            self._add(self._file, outcome.as_record())
            self._file.flush()

    def end(self, summary: Summary) -> None:
        if self._file is not None:
            with self._explained():
                self._file.close()

    @abstractmethod
    def _head(self, file: IO[str]) -> None:
        """Write what comes before all photos."""

    @abstractmethod
    def _add(self, file: IO[str], record: dict[str, Any]) -> None:
        """Write one photo."""

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise destination_error(error, self._path) from error


class CsvFile(_ReportFile):
    """A row for each photo."""

    def _head(self, file: IO[str]) -> None:
        fields = ["source", "target", "status", "reason", "error", "seconds", "width_in", "height_in"]
        self._writer = csv.DictWriter(file, [*fields, "width_out", "height_out", "bytes_out", "notes"])
        self._writer.writeheader()

    def _add(self, file: IO[str], record: dict[str, Any]) -> None:
        paths = {key: _no_formula(record[key], "./") for key in ("source", "target")}
        texts = {"reason": record["reason"], "notes": "; ".join(record["notes"])}
        texts = {key: _no_formula(text, "'") for key, text in texts.items()}
        self._writer.writerow({**record, **paths, **texts})


def _no_formula(text: str, before: str) -> str:
    """Text for a cell; ``before`` goes before one that a spreadsheet would compute, or run a program by."""
    return before + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


class JsonFile(_ReportFile):
    """A JSON array with an object for each photo, which is whole after each of them."""

    def _head(self, file: IO[str]) -> None:
        file.write("[")
        self._separator = "\n"
        self._close(file)

    def _add(self, file: IO[str], record: dict[str, Any]) -> None:
        file.seek(self._end)
        file.write(self._separator + json.dumps(record))
        self._separator = ",\n"
        self._close(file)

    def _close(self, file: IO[str]) -> None:
        self._end = file.tell()
        file.write("\n]\n")


def _new_file(path: Path) -> IO[str]:
    """A new file, so that another name of the old one, perhaps in a backup, keeps what it had."""
    real = Path(os.path.realpath(path))
    if real.is_file():
        with contextlib.suppress(PermissionError):  # a log that others have made for us to write into
            real.unlink()
    return real.open("w", encoding="utf-8", newline="")


def report_file(path: Path) -> Reporter:
    """The report in the format that the name's ending asks for.

    Raises:
        UsageError: the name is a link to something that is no report; it would be lost.
    """
    if Path(os.path.realpath(path)).suffix not in REPORT_SUFFIXES:
        raise UsageError(
            f"--report {show(path)} is a link to {show(os.path.realpath(path))}, which is no report"
        )
    return CsvFile(path) if path.suffix == ".csv" else JsonFile(path)


def outcome_line(outcome: Outcome) -> str:
    """One photo's end in one line, and a line below it for each note."""
    name = show(outcome.photo.relative)
    if outcome.status == "done" and outcome.size_in and outcome.size_out:
        (height, width), (tall, wide) = outcome.size_in, outcome.size_out
        line = f"done     {name}  {width} x {height} -> {wide} x {tall}, {outcome.seconds:.1f} s"
    else:
        line = f"{outcome.status:8} {name}: {one_line(outcome.reason)}"
    return line + "".join(f"\n         note: {one_line(note)}" for note in outcome.notes)


def summary_lines(summary: Summary) -> list[str]:
    """The end of a run for people: counts, why photos were skipped, and every failure with its reason."""
    counts = summary.counts
    lines = [
        f"{counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed"
        f" in {duration(summary.seconds)}"
    ]
    if summary.megapixels_out:
        lines[0] += f": {summary.megapixels:.1f} megapixels became {summary.megapixels_out:.1f}"
    lines += [f"  {count:6} skipped: {one_line(reason)}" for reason, count in summary.skipped.most_common()]
    lines += [f"  {count:6} ignored: {reason}" for reason, count in summary.ignored.most_common()]
    if summary.noted:
        lines.append(f"  {summary.noted:6} done with a note: see above, or the report")
    lines += [f"  folder {show(path)} could not be listed: {why}" for path, why in summary.unreadable_folders]
    shown = summary.failures[:_MANY_FAILURES]
    lines += [f"  failed {show(outcome.photo.source)}: {one_line(outcome.reason)}" for outcome in shown]
    if len(summary.failures) > len(shown):
        lines.append(
            f"  and {len(summary.failures) - len(shown)} more: `srbatch status OUT` lists all of them"
        )
    return lines


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as people write them.

    >>> duration(7), duration(75), duration(3725)
    ('7 s', '1 min 15 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
