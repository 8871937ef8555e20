"""What a killed run left in its output folder is put right, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from srbatch.options import Options
from srbatch.outputs.archive import looked_into, opened, state_folder
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.rows import Row
from tests.outputs.archive.conftest import BE_KILLED, killed_while_writing, names_below, row_of, with_
from tests.processes import running


@pytest.mark.parametrize("row", [None, row_of(b"whole")], ids=["half", "whole"])
def test_a_temporary_file_is_removed_and_the_photo_is_to_be_done(options: Options, row: Row | None) -> None:
    temp = killed_while_writing(options, row=row)
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
        assert archive.ledger.row("a.jpg") is None
    assert not temp.exists()
    assert not (options.out / "a.jpg").exists()


def test_an_output_that_has_its_name_but_no_row_is_done(options: Options) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole"))
    temp.unlink()
    (options.out / "a.jpg").write_bytes(b"whole")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"whole"


def test_an_output_that_has_both_names_is_done_and_the_temporary_one_goes(options: Options) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole"))
    temp.write_bytes(b"whole")
    (options.out / "a.jpg").hardlink_to(temp)
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")
    assert not temp.exists()
    assert (options.out / "a.jpg").read_bytes() == b"whole"


def test_an_older_output_stays_and_so_does_its_row(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"newer"))
    ledger = Ledger.open(state_folder(options.out, None))
    older = row_of(b"older", recipe='{"size": "x2"}')
    ledger.record(older)
    ledger.begin("a.jpg", ".srbatch-other.part")
    ledger.about_to_commit(row_of(b"newer"))
    ledger.close()
    (options.out / "a.jpg").write_bytes(b"older")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") == older
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"older"


def test_a_file_that_somebody_else_put_there_stays_without_a_row(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"ours"))
    (options.out / "a.jpg").write_bytes(b"somebody else's")
    with opened(options, "again") as archive:
        assert archive.ledger.row("a.jpg") is None
        assert archive.ledger.pending() == []
    assert (options.out / "a.jpg").read_bytes() == b"somebody else's"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the output folder", "--scratch"])
def test_a_run_that_was_killed_leaves_nothing_after_the_next(
    options: Options, tmp_path: Path, elsewhere: bool
) -> None:
    fast = tmp_path / "fast"
    options = with_(options, scratch=fast) if elsewhere else options
    with running(BE_KILLED, options.out, fast if elsewhere else "") as process:
        process.kill()
        process.wait()
    assert {Path(name).suffix for name in names_below(tmp_path)} >= {".part", ".raw"}
    with opened(options, "again") as archive:
        assert names_below(archive.scratch.folder) == []
        assert archive.ledger.pending() == []
    assert {Path(name).suffix for name in names_below(tmp_path)}.isdisjoint({".part", ".raw"})
    assert not archive.scratch.folder.exists()


OWN = ".srbatch-0123456789ab.part"


@pytest.mark.parametrize("keeps_files", [False, True], ids=["a run", "a look"])
@pytest.mark.parametrize(
    ("target", "temp"),
    [
        ("a.jpg", "../photos/a.jpg"),
        ("a.jpg", "{}/photos/a.jpg"),
        ("a.jpg", "edited.jpg"),
        ("a.jpg", "1999/../../photos/a.jpg"),
        ("a.jpg", f"../photos/{OWN}"),
        ("a.jpg", f"{{}}/photos/{OWN}"),
        ("../photos/a.jpg", f"../photos/{OWN}"),
        ("{}/photos/a.jpg", f"{{}}/photos/{OWN}"),
        ("a\0.jpg", OWN),
        ("", OWN),
    ],
)
def test_a_ledger_of_others_has_no_file_deleted(
    options: Options,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    target: str,
    temp: str,
    keeps_files: bool,
) -> None:
    (options.inputs[0] / OWN).write_bytes(b"somebody's")
    killed_while_writing(options).unlink()
    (options.out / "1999").mkdir()
    (options.out / "edited.jpg").write_bytes(b"somebody's")
    named = [text.format(tmp_path) for text in (target, temp)]
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.drop("a.jpg")
    ledger.begin(named[0], named[1], row_of(b"original", target=named[0]))
    ledger.close()
    before = {name for name in names_below(tmp_path) if ".srbatch/" not in name}
    for _ in range(2):
        with (looked_into if keeps_files else partial(opened, command="again"))(options) as archive:
            assert archive.ledger.pending() == []
            assert list(archive.ledger.rows()) == []
    assert {name for name in names_below(tmp_path) if ".srbatch/" not in name} == before
    assert caplog.text.count("which no srbatch does") == (2 if keeps_files else 1)


@pytest.mark.parametrize("coming", [None, hashlib.sha256(b"evil").hexdigest()], ids=["goes", "is replaced"])
@pytest.mark.parametrize("before", [hashlib.sha256(b"captions").hexdigest(), ["odd"], 5])
def test_a_ledger_of_others_has_no_sidecar_changed_among_the_originals(
    options: Options, tmp_path: Path, coming: str | None, before: object
) -> None:
    (options.inputs[0] / "a.jpg.xmp").write_bytes(b"captions")
    killed_while_writing(options).unlink()
    (options.out / "1999").symlink_to(options.inputs[0])
    (options.inputs[0] / OWN.replace(".part", ".xmp.part")).write_bytes(b"evil")
    details = json.dumps({"sidecar_before": before, "sidecar_sha256": coming})
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("1999/a.jpg", f"1999/{OWN}", row_of(b"original", target="1999/a.jpg", details=details))
    ledger.close()
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
    assert (options.inputs[0] / "a.jpg.xmp").read_bytes() == b"captions"
    assert (options.inputs[0] / "a.jpg").read_bytes() == b"original"


@pytest.mark.parametrize("keeps_files", [False, True], ids=["a run", "a look"])
def test_a_sidecar_that_lies_ready_gets_its_name_and_a_look_moves_none(
    options: Options, keeps_files: bool
) -> None:
    temp = killed_while_writing(options)
    temp.unlink()
    (options.out / "a.jpg").write_bytes(b"whole")
    ready = temp.with_name(f"{temp.stem}.xmp.part")
    ready.write_bytes(b"captions")
    known = {"sidecar_sha256": hashlib.sha256(b"captions").hexdigest()}
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.about_to_commit(row_of(b"whole", details=json.dumps({**known, "sidecar_before": None})))
    ledger.close()
    with (looked_into if keeps_files else partial(opened, command="again"))(options) as archive:
        row = archive.ledger.row("a.jpg")
        assert row is not None
        assert keeps_files or json.loads(row.details) == known
    assert ready.exists() == keeps_files
    assert (options.out / "a.jpg.xmp").exists() != keeps_files


@pytest.mark.parametrize(
    "changes",
    [{"mtime_ns": 2**63}, {"size": None}, {"details": []}, {"recipe": "\udcff"}],
    ids=["too large", "null", "no text", "surrogate"],
)
def test_a_finished_output_of_which_no_note_can_be_made_blocks_no_run(
    options: Options, caplog: pytest.LogCaptureFixture, changes: dict[str, object]
) -> None:
    temp = killed_while_writing(options, row=row_of(b"whole", **changes))
    (options.out / "a.jpg").write_bytes(b"whole")
    for _ in range(2):
        with opened(options, "again") as archive:
            assert archive.ledger.pending() == []
            assert list(archive.ledger.rows()) == []
    assert not temp.exists()
    assert (options.out / "a.jpg").read_bytes() == b"whole"
    assert caplog.text.count("no note of it can be made") == 1


def test_a_temporary_file_behind_a_link_to_another_disk_is_removed(options: Options, tmp_path: Path) -> None:
    killed_while_writing(options)
    (tmp_path / "disk").mkdir()
    (options.out / "1999").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / OWN).write_bytes(b"half")
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("1999/a.jpg", f"1999/{OWN}")
    ledger.close()
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
    assert names_below(tmp_path / "disk") == []


def test_what_was_cut_off_in_a_folder_that_is_away_is_put_right_when_it_is_back(
    options: Options, tmp_path: Path
) -> None:
    disk, away = tmp_path / "disk", tmp_path / "away"
    disk.mkdir()
    options.out.mkdir(exist_ok=True)
    (options.out / "1999").symlink_to(disk)
    with opened(options, ""):
        pass
    (disk / "a.jpg").write_bytes(b"whole")
    (disk / OWN).write_bytes(b"part")
    with closing(Ledger.open(options.out / STATE_FOLDER)) as ledger:
        ledger.begin("1999/a.jpg", f"1999/{OWN}", row_of(b"whole", target="1999/a.jpg"))
    disk.rename(away)
    with opened(options, "") as archive:
        assert len(archive.ledger.pending()) == 1
    away.rename(disk)
    with opened(options, "") as archive:
        assert archive.ledger.pending() == []
        found = archive.ledger.row("1999/a.jpg")
    assert found is not None
    assert found.status == "done"
    assert [path.name for path in disk.iterdir()] == ["a.jpg"]


def test_a_note_of_one_target_with_the_row_of_another_that_is_there_is_forgotten(options: Options) -> None:
    killed_while_writing(options, row=None)
    ledger = Ledger.open(state_folder(options.out, None))
    ledger.begin("a.jpg", OWN, row_of(b"original", target="../photos/a.jpg"))
    ledger.close()
    with opened(options, "again") as archive:
        assert archive.ledger.pending() == []
        assert list(archive.ledger.rows()) == []
