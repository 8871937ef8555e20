"""What people and scripts read line by line, and the summary."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from srbatch.discovery.found import Found, Photo
from srbatch.errors import ExitCode
from srbatch.reporting.outcome import Outcome, Summary, outcome_line, summary_lines
from srbatch.reporting.report import Plain, Several, Silent
from srbatch.reporting.report_files import JsonLines
from srbatch.reporting.terminal import Terminal
from tests.reporting.report.conftest import ODD_NAMES, Clock, done, failed, photo, skipped, summary_of

# ---- JSON lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
@pytest.mark.parametrize("name", ["plain.jpg", *ODD_NAMES], ids=ascii)
def test_each_photo_is_one_line_of_json_whatever_the_encoding_of_the_output(name: str, encoding: str) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace")
    reporter = JsonLines(stream)
    reporter.finished(done(name))
    reporter.finished(failed(name))
    lines = buffer.getvalue().decode(encoding).splitlines()
    assert [json.loads(line) for line in lines] == [
        done(name).as_record(),
        failed(name).as_record(),
    ]


# ---- plain lines ---------------------------------------------------------------------------------


def test_plain_lines_say_each_photo_that_was_tried_and_not_those_skipped() -> None:
    stream = io.StringIO()
    reporter = Plain(stream)
    reporter.begin(2, 240_000)
    for outcome in (done("sub/a.jpg"), failed("b.jpg"), skipped("c.jpg")):
        reporter.started(outcome.photo, 120_000)
        reporter.finished(outcome)
    assert stream.getvalue().splitlines() == [
        "2 photos to do, 0.2 megapixels",
        "done     sub/a.jpg  400 x 300 -> 1600 x 1200, 1.2 s",
        "failed   b.jpg: it is damaged",
    ]


@pytest.mark.parametrize(("photos", "said"), [(3, ""), (1200, "1,200 photos found; looking at which")])
@pytest.mark.parametrize("quiet", [False, True])
def test_of_many_photos_it_is_said_that_they_are_looked_at(photos: int, said: str, quiet: bool) -> None:
    plain, screen = io.StringIO(), io.StringIO()
    many = Found([photo(f"{n}.jpg") for n in range(photos)])
    Plain(plain, quiet=quiet).found(many)
    Terminal(Console(file=screen, width=100)).found(many)
    assert plain.getvalue().startswith(said if not quiet else "")
    assert bool(plain.getvalue()) == (bool(said) and not quiet)
    assert screen.getvalue().startswith(said)


def test_one_photo_is_no_photos() -> None:
    stream = io.StringIO()
    Plain(stream).begin(1, 120_000)
    assert stream.getvalue() == "1 photo to do, 0.1 megapixels\n"


def test_a_note_on_a_photo_that_is_skipped_is_told() -> None:
    stream = io.StringIO()
    reporter = Plain(stream)
    reporter.finished(replace(skipped(), notes=("its sidecar was left alone",)))
    assert stream.getvalue().splitlines() == [
        "skipped  a.jpg: done before, and nothing has changed",
        "         note: its sidecar was left alone",
    ]


def test_notes_stand_below_their_photo() -> None:
    line, *notes = outcome_line(done(notes=("its content is png", "no profile"))).splitlines()
    assert line.startswith("done     a.jpg")
    assert [note.strip() for note in notes] == ["note: its content is png", "note: no profile"]


def test_quiet_says_the_summary_only() -> None:
    stream = io.StringIO()
    reporter = Plain(stream, quiet=True)
    reporter.begin(1, 120_000)
    reporter.started(photo(), 120_000)
    reporter.progress(photo(), 120_000)
    reporter.finished(failed())
    assert stream.getvalue() == ""
    summary = summary_of(failed())
    reporter.end(summary)
    assert stream.getvalue().splitlines() == summary_lines(summary)


def test_now_and_then_it_says_how_far_it_is(clock: Clock) -> None:
    stream = io.StringIO()
    reporter = Plain(stream)
    reporter.begin(1, 10_000_000)
    reporter.started(photo(), 10_000_000)
    for _ in range(99):
        clock.now += 1
        reporter.progress(photo(), 100_000)
    progress = stream.getvalue().splitlines()[1:]
    assert progress == [
        "3.0 of 10.0 megapixels, 0.100 megapixels/s, 1 min 10 s to go",
        "6.0 of 10.0 megapixels, 0.100 megapixels/s, 40 s to go",
        "9.0 of 10.0 megapixels, 0.100 megapixels/s, 10 s to go",
    ]


@pytest.mark.parametrize("outcome", [done, failed, skipped], ids=lambda made: made.__name__)
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_photo_with_any_name_is_one_line_of_printable_text(name: str, outcome: object) -> None:
    line = outcome_line(outcome(name))  # type: ignore[operator]
    assert line.encode("utf-8")
    assert len(line.splitlines()) == 1
    assert all(letter.isprintable() or letter == "\t" for letter in line)


def test_what_was_not_done_is_called_as_it_is_and_not_as_its_output_would_be() -> None:
    scan = replace(photo("2004/scan.bmp"), relative=Path("2004/scan.bmp.png"))
    assert outcome_line(replace(failed(), photo=scan)).startswith("failed   2004/scan.bmp: ")
    assert outcome_line(replace(skipped(), photo=scan)).startswith("skipped  2004/scan.bmp: ")
    assert outcome_line(replace(done(), photo=scan)).startswith("done     2004/scan.bmp.png  ")


def test_a_reason_forges_no_line() -> None:
    reason = "is damaged\ndone     b.jpg\x1b[2J"
    told = r"is damaged\ndone     b.jpg\x1b[2J"
    assert outcome_line(failed(reason=reason)) == f"failed   a.jpg: {told}"
    assert outcome_line(skipped(reason=reason)) == f"skipped  a.jpg: {told}"
    assert outcome_line(done(notes=(reason,))).splitlines()[1:] == [f"         note: {told}"]
    lines = summary_lines(summary_of(failed(reason=reason), skipped(reason=reason)))
    assert lines[1:] == [f"       1 skipped: {told}", f"  failed photos/a.jpg: {told}"]


# ---- the summary ---------------------------------------------------------------------------------


def test_the_summary_counts_and_gives_reasons() -> None:
    summary = summary_of(done("a"), done("b", notes=("odd",)), skipped("c"), skipped("d"), failed("e.jpg"))
    summary.skipped["as large as x4 already"] += 1
    summary.ignored.update({"hidden files": 3})
    summary.unreadable_folders = [(Path("photos/closed"), "Permission denied")]
    summary.seconds = 75
    assert summary_lines(summary) == [
        "2 done, 2 skipped, 1 failed in 1 min 15 s: 0.2 megapixels became 3.8",
        "       2 skipped: done before, and nothing has changed",
        "       1 skipped: as large as x4 already",
        "       3 ignored: hidden files",
        "       1 done with a note: see above, or the report",
        "  folder photos/closed could not be listed: Permission denied",
        "  failed photos/e.jpg: it is damaged",
    ]


def test_the_summary_of_nothing_is_a_line() -> None:
    assert summary_lines(Summary()) == ["0 done, 0 skipped, 0 failed in 0 s"]


def test_a_run_that_found_nothing_says_so() -> None:
    lines = summary_lines(Summary(photos=0, ignored=Counter({"hidden files": 2})))
    assert lines[1:] == ["  no photo was found in what was named", "       2 ignored: hidden files"]


def test_a_dry_run_is_told_as_such() -> None:
    summary = summary_of(skipped(), failed())
    summary.dry, summary.seconds = True, 12
    assert summary_lines(summary)[0] == "a dry run, of 12 s: 1 would be skipped, 1 would fail"


@pytest.mark.parametrize(("failures", "shown", "more"), [(20, 20, 0), (21, 20, 1), (500, 20, 480)])
def test_the_summary_shows_20_failures_and_says_where_the_others_are(
    failures: int, shown: int, more: int
) -> None:
    lines = summary_lines(summary_of(*(failed(f"{number}.jpg") for number in range(failures))))
    assert [line for line in lines if line.startswith("  failed ")] == [
        f"  failed photos/{number}.jpg: it is damaged" for number in range(shown)
    ]
    assert sum(f"and {more} more" in line and "srbatch status" in line for line in lines) == (more > 0)


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_failure_with_any_name_is_one_line_of_the_summary(name: str) -> None:
    summary = summary_of(failed(name))
    summary.unreadable_folders = [(Path(name), "Permission denied")]
    lines = "\n".join(summary_lines(summary))
    assert lines.encode("utf-8")
    assert len(lines.splitlines()) == 3


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (Summary(), ExitCode.DONE),
        (summary_of(done(), skipped()), ExitCode.DONE),
        (summary_of(done(), failed()), ExitCode.SOME_FAILED),
        (Summary(unreadable_folders=[(Path("x"), "why")]), ExitCode.SOME_FAILED),
    ],
    ids=["nothing", "all well", "a failure", "a folder"],
)
def test_the_exit_code_tells_the_truth(summary: Summary, code: ExitCode) -> None:
    assert summary.exit_code is code


@given(st.lists(st.sampled_from([done(), failed(), skipped()])))
def test_every_outcome_is_counted_once(outcomes: list[Outcome]) -> None:
    summary = summary_of(*outcomes)
    assert summary.counts.total() == len(outcomes)
    assert summary.skipped.total() == summary.counts["skipped"]
    assert len(summary.failures) == summary.counts["failed"]
    assert summary.megapixels == pytest.approx(0.12 * summary.counts["done"])


# ---- passing on ----------------------------------------------------------------------------------


def test_several_reporters_all_hear_everything() -> None:
    class Noting(Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def found(self, found: Found) -> None:
            self.heard.append("found")

        def begin(self, photos: int, pixels: int) -> None:
            self.heard.append(f"begin {photos} {pixels}")

        def started(self, photo: Photo, pixels: int) -> None:
            self.heard.append(f"started {pixels}")

        def progress(self, photo: Photo, pixels: float) -> None:
            self.heard.append(f"progress {pixels}")

        def finished(self, outcome: Outcome) -> None:
            self.heard.append(outcome.status)

        def end(self, summary: Summary) -> None:
            self.heard.append("end")

    first, second = Noting(), Noting()
    reporter = Several([first, second])
    reporter.found(Found())
    reporter.begin(1, 2)
    reporter.started(photo(), 2)
    reporter.progress(photo(), 1)
    reporter.finished(done())
    reporter.end(Summary())
    assert first.heard == ["found", "begin 1 2", "started 2", "progress 1", "done", "end"]
    assert second.heard == first.heard
