"""What people and scripts are told: complete at any moment, true, and safe with any name."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srbatch import report
from srbatch.discover import Found, Photo
from srbatch.errors import DestinationError, ExitCode, UsageError
from srbatch.formats import Format
from srbatch.report import (
    CsvFile,
    JsonFile,
    JsonLines,
    Outcome,
    Pace,
    Plain,
    Reporter,
    Several,
    Silent,
    Summary,
    duration,
    outcome_line,
    report_file,
    summary_lines,
)

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


# ---- the JSON file -------------------------------------------------------------------------------


def test_the_json_file_is_valid_after_every_photo(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    reporter = begun(JsonFile(path))
    outcomes = [done("long name " * 20), failed("b.jpg"), skipped("c.jpg"), done("d.jpg", notes=("odd",))]
    for count, outcome in enumerate([None, *outcomes]):
        if outcome is not None:
            reporter.finished(outcome)
        assert json.loads(path.read_text("utf-8")) == [o.as_record() for o in outcomes[:count]]
    reporter.end(summary_of(*outcomes))
    assert json.loads(path.read_text("utf-8")) == [outcome.as_record() for outcome in outcomes]


def test_the_json_file_of_a_run_without_photos_is_an_empty_array(tmp_path: Path) -> None:
    begun(JsonFile(tmp_path / "report.json")).end(Summary())
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == []


def test_a_record_says_what_happened() -> None:
    assert done("sub/a.jpg", notes=("its content is png",)).as_record() == {
        "source": "photos/sub/a.jpg",
        "target": "hi/sub/a.jpg",
        "status": "done",
        "reason": "",
        "error": None,
        "seconds": 1.235,
        "width_in": 400,
        "height_in": 300,
        "width_out": 1600,
        "height_out": 1200,
        "bytes_out": 5678,
        "notes": ["its content is png"],
    }


# ---- the CSV file --------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_file_has_each_photo_as_soon_as_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    reporter = begun(CsvFile(path))
    assert path.read_text("utf-8").startswith("source,target,status,")
    for count, name in enumerate(["a.jpg", "b.jpg", "c.jpg"], 1):
        reporter.finished(done(name))
        assert [row["source"] for row in read_csv(path)] == [
            f"photos/{n}" for n in ("a.jpg", "b.jpg", "c.jpg")[:count]
        ]
    reporter.end(Summary())


def test_the_csv_file_has_the_columns_of_the_json_file(tmp_path: Path) -> None:
    reporter = begun(CsvFile(tmp_path / "report.csv"))
    reporter.finished(done(notes=("one", "two")))
    reporter.end(Summary())
    (row,) = read_csv(tmp_path / "report.csv")
    assert list(row) == list(done().as_record())
    assert row["notes"] == "one; two"


# ---- both files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("r.csv", CsvFile), ("r.json", JsonFile)])
def test_a_reports_name_decides_its_format(tmp_path: Path, name: str, kind: type) -> None:
    reporter = report_file(tmp_path / name)
    assert isinstance(reporter, kind)
    reporter.end(Summary())


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_the_folder_of_a_report_is_made(tmp_path: Path, name: str) -> None:
    begun(report_file(tmp_path / "new" / "folder" / name)).end(Summary())
    assert (tmp_path / "new" / "folder" / name).is_file()


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_report_begins_anew(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        reporter = begun(report_file(tmp_path / name))
        reporter.finished(done())
        reporter.end(Summary())
    assert (tmp_path / name).read_text("utf-8").count("photos/a.jpg") == 1


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_report_that_cannot_be_made_is_a_destination_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DestinationError, match=name):
        begun(report_file(tmp_path / name))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize(("name", "kind"), [("r.csv", CsvFile), ("r.json", JsonFile)])
def test_a_report_on_a_full_disk_is_a_destination_error_to_the_end(
    tmp_path: Path, name: str, kind: type[CsvFile | JsonFile]
) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    reporter = kind(tmp_path / name)
    with pytest.raises(DestinationError, match=name):
        begun(reporter)
    with pytest.raises(DestinationError, match=name):
        reporter.end(Summary())


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_run_that_never_owned_its_output_folder_leaves_the_report_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of the run that is going on")
    report_file(tmp_path / name).end(Summary())
    assert (tmp_path / name).read_text() == "of the run that is going on"


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_another_name_of_the_last_report_keeps_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("last")
    (tmp_path / "backup").hardlink_to(tmp_path / name)
    begun(report_file(tmp_path / name)).end(Summary())
    assert (tmp_path / "backup").read_text() == "last"
    assert (tmp_path / name).read_text() != "last"


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_log_in_a_folder_that_is_not_ours_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(path: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / name).write_text("last")
    monkeypatch.setattr(Path, "unlink", refuse)
    begun(report_file(tmp_path / name)).end(Summary())
    assert "last" not in (tmp_path / name).read_text()


@pytest.mark.parametrize("name", ["r.csv", "r.json"])
def test_a_report_may_be_a_link_to_a_report(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(f"elsewhere/{name}")
    begun(report_file(tmp_path / name)).end(Summary())
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / "elsewhere" / name).stat().st_size > 0


@pytest.mark.parametrize("there", [True, False])
def test_a_report_that_is_a_link_to_a_photo_is_refused(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "a.jpg").write_bytes(b"original")
    (tmp_path / "r.csv").symlink_to("a.jpg")
    with pytest.raises(UsageError, match=r"--report .*r\.csv is a link to .*a\.jpg"):
        report_file(tmp_path / "r.csv")
    assert (tmp_path / "a.jpg").exists() is there


FORMULAS = ["=HYPERLINK(1).jpg", "+1.jpg", "-1.jpg", "@SUM(1).jpg", "\t=1.jpg", "\r=1.jpg", "\n=1.jpg"]


@pytest.mark.parametrize("name", FORMULAS, ids=ascii)
def test_no_cell_of_the_csv_file_is_a_formula(tmp_path: Path, name: str) -> None:
    here = replace(photo(name), source=Path(name), target=Path(name))
    made = begun(CsvFile(tmp_path / "report.csv"))
    made.finished(replace(failed(reason=name), photo=here, notes=(name, "odd")))
    made.finished(failed("plain.jpg", "is - odd"))
    made.end(Summary())
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        row, plain = csv.DictReader(file)
    assert (row["source"], row["target"]) == (f"./{name}", f"./{name}")
    assert (row["reason"], row["notes"]) == (f"'{name}", f"'{name}; odd")
    assert (plain["source"], plain["reason"]) == (os.fspath(Path("photos", "plain.jpg")), "is - odd")


@pytest.mark.skipif(os.sep != "/", reason="a backslash parts folders here")
@given(st.binary(min_size=1, max_size=12) | st.text("\\xXf5c0é\udcff", min_size=1).map(os.fsencode))
@example(rb"\xff.jpg")
@example(b"\xff.jpg")
@example(rb"\x5cxff.jpg")
@example(b"\\\xff.jpg")
def test_every_name_can_be_told_from_its_record(name: bytes) -> None:
    name = name.replace(b"\0", b"").replace(b"/", b"") or b"a"
    told = replace(done(), photo=replace(photo(), source=Path("/photos", os.fsdecode(name))))
    text = told.as_record()["source"].removeprefix("/photos").removeprefix("/")
    meant = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    assert meant == (name if name != b"." else b"")


@pytest.mark.parametrize("name", ["a.jpg", "é 🌅.jpg", r"back\slash.jpg", r"back\x.jpg", r"C:\XFF.jpg"])
def test_ordinary_names_are_told_as_they_are(name: str) -> None:
    assert done(name).as_record()["source"] == os.fspath(Path("photos", name))


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_any_name_can_be_reported_in_files(tmp_path: Path, name: str) -> None:
    for kind in ("r.csv", "r.json"):
        reporter = begun(report_file(tmp_path / kind))
        for outcome in (done(name), failed(name), skipped(name)):
            reporter.finished(outcome)
        reporter.end(Summary())
    sources = [outcome["source"] for outcome in json.loads((tmp_path / "r.json").read_text("utf-8"))]
    assert sources == [row["source"] for row in read_csv(tmp_path / "r.csv")]
    assert len(sources) == 3


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


# ---- pace ----------------------------------------------------------------------------------------


def test_pace_is_by_pixels_and_time(clock: Clock) -> None:
    pace = Pace(1_000_000)
    assert pace.left_s is None
    pace.started(photo(), 400_000)
    clock.now += 10
    pace.progress(photo(), 100_000)
    assert (pace.done, pace.rate, pace.left_s) == (100_000, 10_000, 90)
    clock.now += 10
    pace.progress(photo(), 100_000)
    assert (pace.done, pace.rate, pace.left_s) == (200_000, 10_000, 80)


def test_all_of_a_photo_counts_when_it_ends_however(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 400_000)
    pace.progress(photo(), 1_000)
    pace.finished(photo())
    assert pace.done == 400_000
    pace.started(photo(), 600_000)
    assert pace.done == 400_000
    pace.finished(photo())
    assert pace.done == 1_000_000
    assert pace.left_s == 0


def test_a_photo_that_starts_again_is_not_counted_twice(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 400_000)
    pace.progress(photo(), 300_000)
    pace.progress(photo(), -300_000)
    assert (pace.done, pace.left_s) == (0, None)
    pace.progress(photo(), 100_000)
    assert pace.done == 100_000


def test_several_photos_in_hand_each_count_for_themselves(clock: Clock) -> None:
    pace = Pace(1_000_000)
    first, second = photo("a.jpg"), photo("b.jpg")
    pace.started(first, 400_000)
    pace.started(second, 600_000)
    pace.progress(second, 300_000)
    pace.progress(first, 100_000)
    assert pace.done == 400_000
    pace.finished(first)
    assert pace.done == 700_000
    assert [known.done for known in pace.in_hand.values()] == [300_000]


def test_a_photo_that_was_never_started_counts_for_nothing(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.finished(photo())
    assert pace.done == 0


def test_no_time_at_all_is_no_division_by_zero(clock: Clock) -> None:
    pace = Pace(1_000_000)
    pace.started(photo(), 1_000_000)
    pace.progress(photo(), 500_000)
    assert pace.rate > 0
    assert "0.5 of 1.0 megapixels" in str(pace)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1), st.floats(0, 1e5)), max_size=10))
def test_what_is_done_grows_to_all_pixels(photos: list[tuple[int, float, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(report, "time", SimpleNamespace(monotonic=clock.monotonic))
        pace, before = Pace(sum(pixels for pixels, _, _ in photos)), 0.0
        for pixels, share, seconds in photos:
            pace.started(photo(), pixels)
            clock.now += seconds
            pace.progress(photo(), pixels * share)
            assert before <= pace.done <= pace.pixels
            assert str(pace)
            pace.finished(photo())
            assert pace.done >= before
            before = pace.done
        assert pace.done == pace.pixels


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (100 * 3600 + 59 * 60, "100 h 59 min"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


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
