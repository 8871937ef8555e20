"""What programs are told of a run: JSON lines on standard output, and report files."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from srbatch.discovery.found import Found
from srbatch.errors import UsageError
from srbatch.names import show
from srbatch.options import REPORT_SUFFIXES
from srbatch.outputs.commit import destination_error, make_folder
from srbatch.reporting.outcome import Outcome, Summary
from srbatch.reporting.report import Reporter, Silent


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
