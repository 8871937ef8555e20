"""Reports in files: complete at any moment, true to every name."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srbatch.errors import DestinationError, UsageError
from srbatch.reporting.outcome import Summary
from srbatch.reporting.report_files import CsvFile, JsonFile, report_file
from tests.reporting.report.conftest import ODD_NAMES, begun, done, failed, photo, skipped, summary_of

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
