"""How long a run will read and write for, by a clock that only the codecs move."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from srbatch.codecs import picture
from srbatch.codecs.encode import Encoding
from srbatch.discovery.found import Photo
from srbatch.errors import UnreadablePhoto
from srbatch.formats import Format
from srbatch.options import Options, TargetSize
from srbatch.outputs.scratch import Scratch
from srbatch.preflight import Job
from srbatch.reporting import codec_time
from srbatch.resume import Todo

READ_S, WRITTEN_S = 2.0, 16.0


class Codecs:
    """Decodes for certain; reading a photo takes two seconds, and writing one sixteen."""

    workers = 1

    def __init__(self) -> None:
        self.now = 0.0
        self.read: list[str] = []
        self.written: list[tuple[Encoding, int]] = []
        self.unreadable: set[str] = set()

    def decode(self, source: Path, raw: Path, max_pixels: float) -> picture.Picture:
        """Read it, and move the clock."""
        self.now += READ_S
        self.read.append(source.name)
        if source.name in self.unreadable:
            raise UnreadablePhoto("it cannot be read")
        return picture.decode(source, raw, max_pixels)

    def encode(self, raw: Path, temp: Path, encoding: Encoding) -> None:
        """Write nothing, and move the clock."""
        self.now += WRITTEN_S
        self.written.append((encoding, raw.stat().st_size))


@pytest.fixture
def codecs(monkeypatch: pytest.MonkeyPatch) -> Codecs:
    made = Codecs()
    monkeypatch.setattr(codec_time, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(tmp_path / "scratch")
    yield made
    assert list(made.folder.iterdir()) == [], "temporary files were left behind"


def job(source: Path, *, to: Format | None = None, factor: int = 2) -> Job:
    header = picture.probe(source, 1e9)
    fmt = to or header.format
    photo = Photo(source, Path(source.name), source.with_name("out"), header.format, 1, 1)
    return Job(photo, Todo(replace=False), header, fmt, (header.height * factor, header.width * factor))


def options(*sources: Path) -> Options:
    return Options(inputs=sources, out=Path("out"), size=TargetSize(scale=2.0))


def seconds(jobs: list[Job], codecs: Codecs, scratch: Scratch) -> float:
    pool: Any = codecs
    return codec_time.codec_seconds(jobs, options(*(job.photo.source for job in jobs)), pool, scratch)


def photo(path: Path, height: int = 40, width: int = 60) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def test_a_photo_takes_its_time_by_its_pixels_and_its_output_by_its_own(
    tmp_path: Path, codecs: Codecs, scratch: Scratch
) -> None:
    """Of x2, four times the pixels of the part that was written."""
    assert seconds([job(photo(tmp_path / "a.png"))], codecs, scratch) == READ_S + 4 * WRITTEN_S


def test_workers_share_the_work(tmp_path: Path, codecs: Codecs, scratch: Scratch) -> None:
    codecs.workers = 4
    assert seconds([job(photo(tmp_path / "a.png"))], codecs, scratch) == (READ_S + 4 * WRITTEN_S) / 4


def test_of_a_large_photo_a_part_is_written(tmp_path: Path, codecs: Codecs, scratch: Scratch) -> None:
    large = job(photo(tmp_path / "a.png", 1500, 2000), factor=1)
    found = seconds([large], codecs, scratch)
    ((encoding, size),) = codecs.written
    assert (encoding.height, encoding.width, size) == (1024, 1024, 1024 * 1024 * 3)
    assert found == pytest.approx(READ_S + WRITTEN_S * 1500 * 2000 / 1024**2)


def test_of_many_photos_few_are_read_and_count_for_all(
    tmp_path: Path, codecs: Codecs, scratch: Scratch
) -> None:
    first = photo(tmp_path / "0.png")
    jobs = [job(first)]
    for number in range(1, 9):
        jobs.append(job(Path(shutil.copy(first, tmp_path / f"{number}.png"))))
    assert seconds(jobs, codecs, scratch) == 9 * (READ_S + 4 * WRITTEN_S)
    assert codecs.read == ["1.png", "4.png", "7.png"]


def test_each_format_is_measured_for_itself(tmp_path: Path, codecs: Codecs, scratch: Scratch) -> None:
    jobs = [
        job(photo(tmp_path / "a.png")),
        job(photo(tmp_path / "b.jpg")),
        job(photo(tmp_path / "c.png"), to=Format.AVIF),
    ]
    assert seconds(jobs, codecs, scratch) == 3 * (READ_S + 4 * WRITTEN_S)
    assert {encoding.format for encoding, _ in codecs.written} == {Format.PNG, Format.JPEG, Format.AVIF}


def test_a_photo_that_cannot_be_read_counts_for_nothing(
    tmp_path: Path, codecs: Codecs, scratch: Scratch
) -> None:
    jobs = [job(photo(tmp_path / name)) for name in ("a.png", "b.png")]
    codecs.unreadable = {"a.png"}
    assert seconds(jobs, codecs, scratch) == pytest.approx(2 * 4 * WRITTEN_S + 2 * READ_S)
    codecs.unreadable |= {"b.png"}
    assert seconds(jobs, codecs, scratch) == 0.0


@pytest.mark.parametrize(("to", "sample_bytes"), [(Format.TIFF, 2), (Format.JPEG, 1), (Format.AVIF, 2)])
def test_deep_photos_are_written_as_deep_as_the_format_goes(
    tmp_path: Path, codecs: Codecs, scratch: Scratch, to: Format, sample_bytes: int
) -> None:
    deep = tmp_path / "a.tif"
    tifffile.imwrite(deep, np.full((20, 30, 3), 40_000, np.uint16), photometric="rgb")
    seconds([job(deep, to=to)], codecs, scratch)
    ((encoding, size),) = codecs.written
    assert (encoding.format, size) == (to, 20 * 30 * 3 * sample_bytes)
