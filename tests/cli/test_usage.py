"""Flags, exit codes and the other sub-commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from srbatch.errors import ExitCode
from srbatch.outputs import ledger_lock
from tests.cli.conftest import Srbatch, as_command
from tests.conftest import Originals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scale", "9"], "--scale 9"),
        (["--scale", "0.5"], "--scale 0.5"),
        ([], "give one of --scale, --long-edge and --megapixels"),
        (["--scale", "2", "--long-edge", "100"], "give one of"),
        (["--scale", "2", "--quality", "0"], "--quality 0"),
        (["--scale", "2", "--strength", "1.5"], "--strength 1.5"),
        (["--scale", "2", "--tile", "100"], "--tile 100"),
        (["--scale", "2", "--report", "x.txt"], "--report"),
        (["--scale", "2", "--format", "bmp"], "bmp"),
        (["--scale", "2", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_flags_are_named(
    srbatch: Srbatch, photos: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = srbatch("upscale", photos, "--out", tmp_path / "hi", *arguments)
    assert result.code == ExitCode.USAGE
    assert said in result.err
    assert not (tmp_path / "hi").exists()


def test_output_inside_input_is_refused(both: Srbatch, photos: Path) -> None:
    result = both("upscale", photos, "--scale", 2, "--out", photos / "hi")
    assert result.code == ExitCode.USAGE
    assert "lies inside the input" in result.err


@pytest.mark.parametrize("flag", ["--state", "--scratch", "--report"])
def test_what_a_run_writes_beside_outputs_is_refused_inside_the_input(
    srbatch: Srbatch, photos: Path, tmp_path: Path, flag: str
) -> None:
    result = srbatch("upscale", photos, "--scale", 2, "--out", tmp_path / "hi", flag, photos / "new.csv")
    assert result.code == ExitCode.USAGE
    assert flag in result.err
    assert "lies inside the input" in result.err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--model", "nonsense"], ExitCode.WEIGHTS, "known: photo"),
        (["--model", "./missing.safetensors"], ExitCode.WEIGHTS, "missing.safetensors"),
        (["--device", "cuda:77"], ExitCode.DEVICE, "cuda:77"),
    ],
)
def test_exit_codes(
    srbatch: Srbatch, photos: Path, tmp_path: Path, flags: list[str], code: ExitCode, said: str
) -> None:
    result = srbatch("upscale", photos, "--scale", 2, "--out", tmp_path / "hi", *flags)
    assert result.code == code
    assert said in result.err


def test_destination_that_is_a_file(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "hi").write_text("in the way")
    result = srbatch("upscale", photos, "--scale", 2, "--out", tmp_path / "hi")
    assert result.code == ExitCode.DESTINATION
    assert (tmp_path / "hi").read_text() == "in the way"


def test_a_second_run_on_the_same_folder_is_refused(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    with ledger_lock.locked(tmp_path / "hi" / ".srbatch"):
        result = as_command("upscale", photos, "--scale", 1, "--out", tmp_path / "hi")
    assert result.code == ExitCode.LOCKED
    assert "is being written to by" in result.err


def test_status_and_verify(both: Srbatch, srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    (photos / "bad.jpg").write_bytes(b"")
    srbatch("upscale", photos, "--scale", 1, "--out", out)
    (photos / "bad.jpg").unlink()
    status = both("status", out)
    assert status.code == 3
    assert "4 done" in status.out
    assert "bad.jpg: the file is empty" in status.out
    assert json.loads(both("status", out, "--json").out)["done"] == 4
    assert both("verify", out).code == 0
    (out / "a.jpg").write_bytes((out / "a.jpg").read_bytes()[:-1] + b"x")
    (out / "1999" / "b.png").unlink()
    verified = both("verify", out)
    assert verified.code == 3
    assert "a.jpg: its content is not what was written" in verified.out
    assert "b.png: is not there" in verified.out
    assert verified.out.endswith("as they were written: 2 of 4 outputs\n")


def test_status_without_a_ledger(srbatch: Srbatch, tmp_path: Path) -> None:
    result = srbatch("status", tmp_path)
    assert result.code == ExitCode.DESTINATION
    assert "holds no ledger" in result.err


def test_models(both: Srbatch) -> None:
    short = both("models").out
    assert "photo 0." in short
    assert "  faithful  yes\n" in short
    assert len(short.splitlines()) < 20
    text = both("models", "--full").out
    assert short.split("\n\n")[0] in text
    assert "  Kodak24\n    x4\n" in text
    assert "{" not in text  # a record in a record is told in words
    assert max(map(len, text.splitlines())) < 250, "a long record is broken into lines"
    assert json.loads(both("models", "--json").out)[0]["name"] == "photo"


def test_try_makes_a_sheet(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    result = srbatch("try", photos, "-n", 2, "--scale", 2, "--out", sheet)
    assert result.code == 0, result.err
    with Image.open(sheet) as image:
        assert image.width > 4 * 128
        assert image.height > 2 * 96
    again = srbatch("try", photos, "-n", 2, "--scale", 2, "--out", sheet)
    assert again.code == ExitCode.USAGE
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    ("inputs", "out"),
    [
        (["."], "sheet.png"),
        (["."], "1999/b.png"),
        (["1999/b.png"], "1999/b.png"),
        (["a.jpg", "1999/b.png"], "1999/b.png"),
        (["1999"], "../elsewhere/original.png"),
    ],
    ids=["into the folder", "over a photo of it", "over the photo", "over one of two", "over a linked one"],
)
def test_a_sheet_neither_replaces_a_photo_nor_joins_a_folder_of_photos(
    srbatch: Srbatch, photos: Path, originals: Originals, tmp_path: Path, inputs: list[str], out: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "original.png").write_bytes((photos / "1999" / "b.png").read_bytes())
    (photos / "1999" / "linked.png").symlink_to(tmp_path / "elsewhere" / "original.png")
    originals.remember()
    before = (tmp_path / "elsewhere" / "original.png").read_bytes()
    result = srbatch("try", *(photos / name for name in inputs), "--out", photos / out, "--overwrite")
    assert result.code == ExitCode.USAGE, result.err
    assert "--out" in result.err
    assert (tmp_path / "elsewhere" / "original.png").read_bytes() == before


def test_a_sheet_beside_a_photo_that_is_named(
    srbatch: Srbatch, photos: Path, originals: Originals, tmp_path: Path
) -> None:
    result = srbatch("try", photos / "a.jpg", "-n", 1, "--scale", 1, "--out", photos / "sheet.png")
    assert result.code == 0, result.err
    originals.remember()


def test_a_sheet_does_not_replace_a_link_that_leads_nowhere(
    srbatch: Srbatch, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "sheet.png").symlink_to("unplugged disk")
    result = srbatch("try", photos, "--out", tmp_path / "sheet.png")
    assert result.code == ExitCode.USAGE
    assert (tmp_path / "sheet.png").readlink() == Path("unplugged disk")


def test_help_tells_exit_codes_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, srbatch.cli\n"
        "heavy = {'torch', 'numpy', 'pyvips', 'PIL', 'rich', 'sqlite3'}\n"
        "assert not heavy & set(sys.modules)\n"
        "srbatch.cli.main(['upscale', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for code_ in (0, 2, 3, 4, 5, 6, 7, 129, 130, 143):
        assert f" {code_} " in done.stdout


def test_a_finished_archive_is_checked_without_torch(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    srbatch("upscale", photos, "--scale", 1, "--out", out)
    code = (
        "import sys, srbatch.cli\n"
        f"try: srbatch.cli.main(['upscale', {str(photos)!r}, '--scale', '1', '--out', {str(out)!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_srbatch_never_imports_the_training_framework() -> None:
    code = (
        "import importlib, pkgutil, sys, srbatch\n"
        "names = [module.name for module in pkgutil.walk_packages(srbatch.__path__, 'srbatch.')]\n"
        "assert 'srbatch.codecs.picture' in names\n"
        "for name in names:\n"
        "    if name != 'srbatch.__main__': importlib.import_module(name)\n"
        "assert not {'fastai', 'torchvision', 'trainer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["inspect", "try"])
def test_scratch_space_is_made(srbatch: Srbatch, photos: Path, tmp_path: Path, command: str) -> None:
    sheet = ("--scale", 1, "--out", tmp_path / "sheet.png") if command == "try" else ()
    result = srbatch(command, photos, "--scratch", tmp_path / "new" / "scratch", *sheet)
    assert result.code == 0, result.err
    assert list((tmp_path / "new" / "scratch").iterdir()) == []
