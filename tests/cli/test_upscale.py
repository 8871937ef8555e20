"""The main job through its front doors: what comes out of an archive, and how it is told."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srbatch import weights
from srbatch.card import Card, NetworkConfig
from srbatch.errors import ExitCode
from srbatch.network import SuperResolutionNet
from srbatch.outputs import ledger_lock
from tests.cli.conftest import Srbatch
from tests.conftest import Originals, crop


def test_a_tree_is_mirrored_and_enlarged(both: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    result = both("upscale", photos, "--scale", 2, "--out", out)
    assert result.code == 0, result.err
    made = sorted(
        p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and ".srbatch" not in p.parts
    )
    assert made == ["1999/b.png", "1999/summer/c.webp", "1999/summer/grey.tif", "a.jpg"]
    for name in made:
        with Image.open(out / name) as image, Image.open(photos / name) as before:
            assert image.size == (128, 96)
            assert image.format == before.format
            assert image.mode == before.mode
    assert "4 done, 0 skipped, 0 failed" in result.err
    assert sorted(p.name for p in (out / ".srbatch").iterdir()) == ["ledger.sqlite", "lock"]


def test_the_enlargement_looks_like_the_photo(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    srbatch("upscale", photos, "--scale", 4, "--out", tmp_path / "hi")
    for name in ("a.jpg", "1999/b.png", "1999/summer/c.webp"):
        with Image.open(tmp_path / "hi" / name) as image, Image.open(photos / name) as before:
            back = np.asarray(image.resize(before.size, Image.Resampling.BOX)).astype(float)
            # Not less: the finest grain may be taken for noise, and leaves no trace.
            assert np.abs(back - np.asarray(before)).mean() < 5


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (["--scale", "1"], (64, 48)),
        (["--scale", "1.5"], (96, 72)),
        (["--scale", "3"], (192, 144)),
        (["--scale", "8"], (512, 384)),
        (["--long-edge", "100"], (100, 75)),
        (["--megapixels", "0.0123"], (128, 96)),
    ],
)
def test_sizes(
    srbatch: Srbatch, originals: Originals, tmp_path: Path, flags: list[str], size: tuple[int, int]
) -> None:
    crop().save(originals.folder / "a.png")
    originals.remember()
    result = srbatch("upscale", originals.folder, *flags, "--out", tmp_path / "hi")
    assert result.code == 0, result.err
    with Image.open(tmp_path / "hi" / "a.png") as image:
        assert image.size == size


@pytest.fixture
def restorer(tmp_path: Path) -> Path:
    """A model without stages, which serves x1 alone."""
    config = NetworkConfig(encoder="resnet18", features=4, refine_blocks=0, stages=0)
    path = tmp_path / "restorer.safetensors"
    card = Card("restorer", "0.0", "random weights", "none", config, (1,), halo_px=0, ramp_px=32)
    weights.save(path, SuperResolutionNet(config).eval(), card, "fp32")
    return path


def test_a_model_for_x1_restores_and_does_not_enlarge(
    srbatch: Srbatch, photos: Path, tmp_path: Path, restorer: Path
) -> None:
    out = tmp_path / "hi"
    refused = srbatch("upscale", photos, "--scale", 2, "--model", restorer, "--out", out)
    assert refused.code == ExitCode.USAGE
    assert "--scale 2: the model restorer 0.0 reaches 1; use --scale 1, or another --model" in refused.err
    assert not out.exists()
    done = srbatch("upscale", photos, "--scale", 1, "--model", restorer, "--out", out)
    assert "4 done, 0 skipped, 0 failed" in done.err


def test_photos_beyond_the_reach_of_a_model_fail_one_by_one(
    srbatch: Srbatch, originals: Originals, tmp_path: Path, restorer: Path
) -> None:
    crop(40, 60).save(originals.folder / "large.png")
    crop(20, 30).save(originals.folder / "small.png")
    originals.remember()
    out = tmp_path / "hi"
    result = srbatch("upscale", originals.folder, "--long-edge", 60, "--model", restorer, "--out", out)
    assert result.code == ExitCode.SOME_FAILED
    assert "0 done, 1 skipped, 1 failed" in result.err
    assert "30 x 20 px would have to grow 2 times; the most is 1 with the model" in result.err
    again = srbatch("upscale", originals.folder, "--long-edge", 60, "--out", out)
    assert "1 done, 1 skipped, 0 failed" in again.err


def test_a_photo_that_is_large_enough_is_skipped_with_the_reason(
    srbatch: Srbatch, photos: Path, tmp_path: Path
) -> None:
    arguments = ("upscale", photos, "--long-edge", 64, "--out", tmp_path / "hi")
    for _ in range(2):  # the second time from the ledger
        result = srbatch(*arguments)
        assert result.code == 0
        assert "0 done, 4 skipped" in result.err
        assert "as large as long edge 64 px already" in result.err


def test_a_file_to_a_file(both: Srbatch, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "better.png"
    result = both("upscale", photos / "a.jpg", "--scale", 2, "--out", target)
    assert result.code == 0, result.err
    assert [p.name for p in target.parent.iterdir()] == ["better.png"]
    with Image.open(target) as image:
        assert (image.size, image.format) == ((128, 96), "PNG")
    again = both("upscale", photos / "a.jpg", "--scale", 2, "--out", target)
    assert again.code == 3
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("inputs", "out", "flags"),
    [
        (["a.jpg"], "better.png", ["--format", "jpeg"]),
        (["a.jpg"], "better.gif", []),
        (["a.jpg", "1999/b.png"], "two.jpg", []),
    ],
)
def test_an_output_is_what_its_name_says_or_refused(
    srbatch: Srbatch, photos: Path, tmp_path: Path, inputs: list[str], out: str, flags: list[str]
) -> None:
    paths = [photos / name for name in inputs]
    for look in ([], ["--dry-run"]):
        result = srbatch("upscale", *paths, "--scale", 1, "--out", tmp_path / out, *flags, *look)
        assert result.code == 2
        assert f"{out} is named like" in result.err
    assert not (tmp_path / out).exists()


def test_names_of_any_kind(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    names = [
        b"with space.jpg",
        "фото 📷.jpg".encode(),
        b"latin-\xe9\xff.jpg",
        b"-dash.jpg",
        b"new\nline.jpg",
        b"x" * 251 + b".jpg",
        b"quote'\".jpg",
    ]
    for name in names:
        with (originals.folder / os.fsdecode(name)).open("wb") as file:
            crop().save(file, "JPEG")
    originals.remember()
    out = tmp_path / os.fsdecode(b"out \xff")
    result = srbatch("upscale", originals.folder, "--scale", 1, "--out", out)
    assert result.code == 0, result.err
    made = {os.fsencode(path.name) for path in out.iterdir() if path.name != ".srbatch"}
    assert made == set(names)
    assert "7 skipped" in srbatch("upscale", originals.folder, "--scale", 1, "--out", out).err


def test_odd_names_through_the_command(originals: Originals, tmp_path: Path) -> None:
    from tests.cli.conftest import as_command

    (originals.folder / os.fsdecode(b"latin-\xe9\xff.jpg")).write_bytes(b"not a picture")
    originals.remember()
    result = as_command("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    assert result.code == 3
    assert "latin-\\xe9\\xff.jpg" in result.err
    assert json.loads(result.out)["status"] == "failed"


def test_sizes_from_one_pixel_up(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    for width, height in [(1, 1), (1, 40), (33, 1), (2, 2), (31, 33)]:
        crop(height, width).save(originals.folder / f"{width}x{height}.png")
    originals.remember()
    result = srbatch("upscale", originals.folder, "--scale", 3, "--out", tmp_path / "hi")
    assert result.code == 0, result.err
    for path in (tmp_path / "hi").glob("*.png"):
        width, height = map(int, path.stem.split("x"))
        with Image.open(path) as image:
            assert image.size == (width * 3, height * 3)


def test_eight_views_are_another_recipe_and_are_declared(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    crop(32, 48).save(originals.folder / "a.png")
    originals.remember()
    out = tmp_path / "hi"
    srbatch("upscale", originals.folder, "--scale", 2, "--out", out)
    before = (out / "a.png").read_bytes()
    assert b"eight views" not in before
    again = ("upscale", originals.folder, "--scale", 2, "--out", out, "--tta")
    assert "1 skipped: made with other settings" in srbatch(*again).err
    assert "1 done" in srbatch(*again, "--redo-changed").err
    assert b"averaged over eight views" in (out / "a.png").read_bytes()
    assert ", tta" in srbatch("status", out).out
    with Image.open(out / "a.png") as image, Image.open(io.BytesIO(before)) as one:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(one)).max() > 0


def test_noise_is_taken_out_first_and_declared(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    clean = np.asarray(crop(64, 96))
    strong = np.random.default_rng(0).normal(0, 25, clean.shape)
    Image.fromarray((clean + strong).round().clip(0, 255).astype(np.uint8)).save(originals.folder / "a.png")
    originals.remember()
    out = tmp_path / "hi"
    arguments = ("upscale", originals.folder, "--scale", 2, "--out", out)
    srbatch(*arguments)
    before = (out / "a.png").read_bytes()
    assert b"model restore" not in before
    again = (*arguments, "--first", "restore")
    assert "1 skipped: made with other settings" in srbatch(*again).err
    assert "1 done" in srbatch(*again, "--redo-changed").err
    after = (out / "a.png").read_bytes()
    declared = rb"first, at the photo's own size, model restore \(sha256 [0-9a-f]{64}\), then model photo"
    assert re.search(declared, after)
    assert ", first model " in srbatch("status", out).out
    assert "1 skipped: done before" in srbatch(*again).err
    truth = np.asarray(crop(64, 96).resize((192, 128), Image.Resampling.BICUBIC)).astype(float)

    def error(data: bytes) -> float:
        with Image.open(io.BytesIO(data)) as image:
            return float(np.abs(np.asarray(image) - truth).mean())

    assert error(after) < 0.6 * error(before)
    sheet = tmp_path / "sheet.png"
    srbatch("try", originals.folder, "--first", "restore", "--scale", 2, "--out", sheet)
    with Image.open(sheet) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--first", "nope"), "'nope'; known: "),
        (
            ("--model", "restore"),
            "to enlarge what it makes, put it first, in place of --model: --first restore",
        ),
    ],
)
def test_models_that_do_not_fit_are_told(
    srbatch: Srbatch, photos: Path, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    result = srbatch("upscale", photos, "--scale", 2, "--out", tmp_path / "hi", *flags)
    assert result.code in (2, 4)
    assert told in result.err


def test_reports_and_json(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"")
    result = srbatch(
        "upscale", photos, "--scale", 1, "--out", tmp_path / "hi", "--json", "--report", tmp_path / "r.csv"
    )
    (photos / "bad.jpg").unlink()
    assert result.code == 3
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    assert rows.keys() == result.records.keys() == {"a.jpg", "b.png", "c.webp", "grey.tif", "bad.jpg"}
    assert rows["bad.jpg"]["status"] == "failed"
    assert rows["a.jpg"]["width_out"] == "64"
    srbatch("upscale", photos, "--scale", 1, "--out", tmp_path / "hi", "--report", tmp_path / "r.json")
    assert len(json.loads((tmp_path / "r.json").read_text())) == 4


def test_the_report_of_a_run_survives_a_run_that_is_refused_and_a_look(
    srbatch: Srbatch, photos: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "hi", tmp_path / "r.csv"
    arguments = ("upscale", photos, "--scale", 1, "--out", out, "--report", report)
    assert srbatch(*arguments).code == 0
    told = report.read_bytes()
    with ledger_lock.locked(out / ".srbatch"):
        assert srbatch(*arguments).code == ExitCode.LOCKED
    assert srbatch(*arguments, "--model", "nonsense").code == ExitCode.WEIGHTS
    assert srbatch(*arguments, "--dry-run").code == 0
    assert report.read_bytes() == told
    assert srbatch(*arguments).code == 0
    assert report.read_bytes() != told


def test_dry_run_tells_and_writes_nothing(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    result = srbatch("upscale", photos, "--scale", 2, "--out", out, "--dry-run")
    assert result.code == 0, result.err
    assert "would do 4 photos" in result.out
    assert result.err.startswith("a dry run, of ")
    assert "are free" in result.out
    assert not out.exists()
    record = json.loads(srbatch("upscale", photos, "--scale", 2, "--out", out, "--dry-run", "--json").out)
    assert record["pixels_out"] == 4 * 128 * 96
    assert record["network_seconds"] > 0
    assert record["codec_seconds"] > 0
    assert record["seconds"] == record["network_seconds"] + record["codec_seconds"]


def test_dry_run_finds_sizes_that_a_format_cannot_hold(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    Image.new("L", (9000, 4)).save(originals.folder / "wide.jpg")
    Image.new("RGB", (9000, 4)).save(originals.folder / "wide.webp")
    originals.remember()
    for flags in (["--dry-run"], []):
        result = srbatch("upscale", originals.folder, "--scale", 8, "--out", tmp_path / "hi", *flags)
        assert result.code == 3
        assert "jpeg holds 65500" in result.err
        assert "webp holds 16383" in result.err


def test_provenance_can_be_left_out(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    srbatch("upscale", photos / "a.jpg", "--scale", 1, "--out", tmp_path / "with.jpg")
    srbatch("upscale", photos / "a.jpg", "--scale", 1, "--out", tmp_path / "without.jpg", "--no-provenance")
    assert b"digitalsourcetype/algorithmicallyEnhanced" in (tmp_path / "with.jpg").read_bytes()
    assert b"digitalsourcetype" not in (tmp_path / "without.jpg").read_bytes()
    assert b"srbatch" not in (tmp_path / "without.jpg").read_bytes()


def test_dates_of_files_are_kept(
    srbatch: Srbatch, photos: Path, originals: Originals, tmp_path: Path
) -> None:
    os.utime(photos / "a.jpg", ns=(10**18, 10**18))
    originals.remember()
    srbatch("upscale", photos, "--scale", 1, "--out", tmp_path / "hi")
    assert (tmp_path / "hi" / "a.jpg").stat().st_mtime_ns == 10**18


def test_same_bytes_every_time(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        srbatch("upscale", photos, "--scale", 2, "--out", tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        if ".srbatch" not in path.parts and path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
