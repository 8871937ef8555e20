"""Photos and outputs that somebody else changes, before a run or during it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from srbatch import batch
from srbatch.codecs import encode
from srbatch.errors import (
    ExitCode,
)
from srbatch.resume import CURRENT
from tests.conftest import Originals, crop
from tests.run.conftest import XMP, outputs, upscale


@pytest.mark.usefixtures("one_at_a_time")
def test_a_file_that_appears_under_the_targets_name_is_not_replaced(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = batch.CodecPool.encode, tmp_path / "hi"

    def encode_slowly(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        (out / "1.png").write_bytes(b"somebody's") if not (out / "1.png").exists() else None
        return real(self, raw, temp, encoding)

    monkeypatch.setattr(batch.CodecPool, "encode", encode_slowly)
    code, listener = upscale(five, out)
    assert code is ExitCode.SOME_FAILED
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert (out / "1.png").read_bytes() == b"somebody's"


@pytest.mark.usefixtures("one_at_a_time")
def test_an_output_that_is_edited_while_it_is_made_again(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = batch.CodecPool.encode, tmp_path / "hi"
    upscale(five, out)

    def edit_first(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        (out / "1.png").write_bytes(b"edited")
        return real(self, raw, temp, encoding)

    monkeypatch.setattr(batch.CodecPool, "encode", edit_first)
    _, listener = upscale(five, out, redo_changed=True, strength=0.5)
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert listener.by_name()["2.png"].status == "done"
    assert (out / "1.png").read_bytes() == b"edited"


def test_an_edit_of_an_output_that_kept_its_size_is_not_replaced(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    upscale(five, out)
    edited = bytearray((out / "1.png").read_bytes())
    edited[-1] ^= 1
    (out / "1.png").write_bytes(edited)
    _, listener = upscale(five, out, redo_changed=True, strength=0.5)
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert listener.by_name()["2.png"].status == "done"
    assert (out / "1.png").read_bytes() == edited
    _, listener = upscale(five, out, redo_changed=True, strength=0.5, overwrite=True)
    assert listener.by_name()["1.png"].status == "done"


def test_a_photo_that_changes_while_it_is_read(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch.CodecPool.decode

    def vanish(self: Any, source: Path, raw: Path, max_pixels: float) -> Any:
        if source.name == "2.png":
            source.unlink()
            originals.remember()
        return real(self, source, raw, max_pixels)

    monkeypatch.setattr(batch.CodecPool, "decode", vanish)
    code, listener = upscale(five, tmp_path / "hi")
    assert code is ExitCode.SOME_FAILED
    assert listener.by_name()["2.png"].error == "PhotoChanged"
    assert len(outputs(tmp_path / "hi")) == 4


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("date_ns", [2**63 + 10**18, -(10**19)], ids=["2294", "1653"])
def test_a_photo_of_any_date_is_done_once(
    originals: Originals, tmp_path: Path, date_ns: int, damaged: bool
) -> None:
    path = originals.folder / "a.png"
    crop(40, 50).save(path)
    if damaged:
        path.write_bytes(b"no picture")
    path.with_name("a.png.xmp").write_text(XMP)
    for file in originals.folder.iterdir():
        os.utime(file, ns=(date_ns, date_ns))
    originals.remember()
    code = ExitCode.SOME_FAILED if damaged else ExitCode.DONE
    assert upscale(originals.folder, tmp_path / "hi")[0] is code
    again, listener = upscale(originals.folder, tmp_path / "hi")
    assert again is code
    (outcome,) = listener.outcomes
    assert "as before" in outcome.reason if damaged else outcome.reason == CURRENT


def other_name(archive: Path, tmp_path: Path, name: str) -> Path:
    """Another name of the folder of photos."""
    if name == "a hard link":
        (archive / "linked").mkdir()
        (archive / "linked" / "0.png").hardlink_to(archive / "in" / "0.png")
        return archive / "linked"
    (tmp_path / "link").symlink_to(archive / "in" if name == "a link" else archive)
    return tmp_path / "link" if name == "a link" else tmp_path / "link" / "in"


@pytest.mark.parametrize("name", ["a link", "a link further up", "a hard link"])
def test_a_photo_that_was_edited_is_done_again_also_by_another_name(
    archive: Path, tmp_path: Path, name: str
) -> None:
    (archive / "in" / "0.png").write_bytes((archive / "in" / "1.png").read_bytes())
    folder = other_name(archive, tmp_path, name)
    code, listener = upscale(folder, archive / "out", state=archive / "state")
    assert (code, listener.by_name()["0.png"].status) == (ExitCode.DONE, "done")
    (archive / "out" / "0.png").write_bytes(b"edited")
    (archive / "in" / "0.png").write_bytes((archive / "in" / "2.png").read_bytes())
    assert upscale(archive / "in", archive / "out", state=archive / "state")[0] is ExitCode.SOME_FAILED
    assert (archive / "out" / "0.png").read_bytes() == b"edited"


@pytest.mark.parametrize("gone", [True, False])
def test_an_output_of_a_photo_that_lies_elsewhere_or_is_gone_is_kept(archive: Path, gone: bool) -> None:
    before = outputs(archive / "out")
    shutil.copytree(archive / "in", archive / "other")
    if gone:
        shutil.rmtree(archive / "in")
    (archive / "other" / "0.png").write_bytes((archive / "other" / "1.png").read_bytes())
    code, listener = upscale(archive / "other", archive / "out", state=archive / "state")
    assert code is ExitCode.SOME_FAILED
    reason = listener.by_name()["0.png"].reason
    assert f"was made from another photo, ../in/0.png{', which is gone' if gone else ''};" in reason
    assert outputs(archive / "out") == before
    known = {name for name, outcome in listener.by_name().items() if outcome.reason == CURRENT}
    assert known == {"1.png", "2.png", "3.png", "4.png"}
