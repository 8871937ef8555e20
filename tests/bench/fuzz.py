"""Damage small photos of every format in many ways, and read each as a run would.

    python -m tests.bench.fuzz [--count 20000] [--seed 0] [--keep FOLDER] [--json FILE]

Each damaged file goes through `picture.probe`, `picture.decode` and `describe.described`, which makes the
metadata of an output in every format, in a worker process with a limit of memory and time. It must end as a
decoded photo or as a PhotoError; a worker that crashes or hangs costs one photo in a run, and is counted; any
other exception is a bug, and the exit code 1. Files that were not done and not refused are kept, and named by
seed and number: the same seed damages the same files in the same way.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path

import pebble

from srbatch.codecs import picture
from srbatch.codecs.codec_pool import _start_worker
from srbatch.containers.blocks import XMP_ID
from srbatch.errors import PhotoError
from srbatch.formats import Format
from srbatch.metadata import reading
from srbatch.options import Options, TargetSize
from srbatch.reporting import describe
from tests.bench import report
from tests.conftest import crop
from tests.corpus import HEIGHT, WIDTH, Case, cases
from tests.files import MOTION, VIDEO, block, segment, splice

MAX_PIXELS = 2e7
MEMORY_MB = 1024
SECONDS = 20.0
AT_ONCE = 50
OPTIONS = Options(inputs=(Path(),), out=Path(), size=TargetSize(scale=2))
PNG = b"\x89PNG\r\n\x1a\n"

Damage = Callable[[bytearray, random.Random], None]


# ---- damage --------------------------------------------------------------------------------------


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[_anywhere(data, rng)] ^= 1 << rng.randrange(8)


def replace_bytes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 4, 32))):
        data[_anywhere(data, rng)] = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))


def cut_off(data: bytearray, rng: random.Random) -> None:
    del data[_anywhere(data, rng) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    start = _anywhere(data, rng)
    del data[start : start + rng.choice((1, 2, 4, 16, 300))]


def swap_blocks(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((2, 4, 12, 64, 256))
    first, second = sorted((_anywhere(data, rng), _anywhere(data, rng)))
    if first + size <= second and second + size <= len(data):
        data[first : first + size], data[second : second + size] = (
            data[second : second + size],
            data[first : first + size],
        )


def edit_length(data: bytearray, rng: random.Random) -> None:
    """Write a number where one may be: lengths, offsets and counts are mostly of 2 or 4 bytes."""
    size = rng.choice((2, 4, 4, 8))
    at = _anywhere(data, rng)
    top = (1 << 8 * size) - 1
    number = rng.choice(
        (0, 1, 2, len(data), len(data) - at, at, top, top >> 1, (top >> 1) + 1, rng.randint(0, top))
    )
    data[at : at + size] = (number & top).to_bytes(size, rng.choice(("little", "big")))


def insert(data: bytearray, rng: random.Random) -> None:
    at = _anywhere(data, rng)
    start = _anywhere(data, rng)
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 4, 40))), data[start : start + 64], bytes(16)))


DAMAGES: tuple[Damage, ...] = (
    flip_bits,
    replace_bytes,
    cut_off,
    cut_out,
    swap_blocks,
    edit_length,
    edit_length,
    insert,
)


def _anywhere(data: bytearray, rng: random.Random) -> int:
    """A place in the file, more often in its first part, where the structure is."""
    end = max(len(data), 1)
    return rng.randrange(min(end, rng.choice((64, 512, end, end))))


def damaged(whole: bytes, seed: int, number: int) -> bytes:
    """The file with one to three kinds of damage."""
    rng, data = random.Random(f"{seed} {number}"), bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data:
            break
        rng.choice(DAMAGES)(data, rng)
    # Half of the PNG files get right checksums again, so that damage gets beyond the first look at them.
    return _with_checksums(bytes(data)) if data.startswith(PNG) and rng.random() < 0.5 else bytes(data)


def _with_checksums(png: bytes) -> bytes:
    made, at = png[: len(PNG)], len(PNG)
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        made += png[at:end] + zlib.crc32(png[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return made + png[at:]


# ---- in a worker ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """Damaged files with these numbers, made of these sources."""

    sources: tuple[Path, ...]
    numbers: tuple[int, ...]
    seed: int
    folder: Path

    def source_of(self, number: int) -> Path:
        return self.sources[number % len(self.sources)]

    def alone(self, number: int) -> Task:
        return Task(self.sources, (number,), self.seed, self.folder)


def start_worker(memory_mb: int) -> None:
    """What a worker of a run does, and silence: libraries write of damaged files to standard error."""
    _start_worker(memory_mb)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def read_all(task: Task) -> list[tuple[int, str, str]]:
    """(number, outcome, details) of each file."""
    found = []
    for number in task.numbers:
        source = task.source_of(number)
        path = task.folder / f"{os.getpid()}{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), task.seed, number))
        found.append((number, *_read(path)))
    return found


def _read(path: Path) -> tuple[str, str]:
    try:
        picture.probe(path, MAX_PIXELS)
        found = picture.decode(path, path.with_suffix(".raw"), MAX_PIXELS)
        fmt = found.header.format
        description = describe.described(path, found, reading.read(path, fmt), fmt, OPTIONS)
        json.dumps(description.as_record())
        description.lines()
        return "done", ""
    except PhotoError as error:
        return f"refused: {type(error).__name__}", str(error)
    except MemoryError:
        return "out of memory", ""
    except Exception:
        return "escaped", traceback.format_exc()


# ---- the run -------------------------------------------------------------------------------------


class Bench:
    """Counts how damaged files end, and keeps those that should not have ended so."""

    def __init__(self, sources: list[Path], seed: int, folder: Path, keep: Path) -> None:
        self.sources, self.seed, self.folder, self.keep = tuple(sources), seed, folder, keep
        self.counts: Counter[str] = Counter()
        self.by_format: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, object]] = []
        self._pool = pebble.ProcessPool(
            max_workers=1,
            context=multiprocessing.get_context("spawn"),
            initializer=start_worker,
            initargs=(MEMORY_MB,),
        )

    def run(self, count: int) -> None:
        """Read ``count`` damaged files."""
        start = said = time.monotonic()
        for first in range(0, count, AT_ONCE):
            numbers = tuple(range(first, min(first + AT_ONCE, count)))
            for number, outcome, details in self._outcomes(numbers):
                self._count(number, outcome, details)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{sum(self.counts.values())} in {said - start:.0f} s: {dict(self.counts)}", flush=True)
        self._pool.stop()
        self._pool.join()

    def _outcomes(self, numbers: tuple[int, ...]) -> list[tuple[int, str, str]]:
        """Those of a batch; where one of it ended the worker, each is read again by itself."""
        task = Task(self.sources, numbers, self.seed, self.folder)
        future = self._pool.schedule(
            read_all, args=(task,), timeout=SECONDS * (1 if len(numbers) == 1 else 3)
        )
        try:
            found: list[tuple[int, str, str]] = future.result()
            return found
        except FutureTimeout:
            end = ("hang", f"more than {SECONDS:.0f} s")
        except pebble.ProcessExpired as error:
            end = ("crash", f"exit code {error.exitcode}")
        if len(numbers) == 1:
            return [(numbers[0], *end)]
        return [outcome for number in numbers for outcome in self._outcomes((number,))]

    def _count(self, number: int, outcome: str, details: str) -> None:
        self.counts[outcome] += 1
        source = self.sources[number % len(self.sources)]
        self.by_format.setdefault(source.suffix, Counter())[outcome] += 1
        if outcome == "done" or outcome.startswith("refused"):
            return
        self.keep.mkdir(parents=True, exist_ok=True)
        kept = self.keep / f"{outcome.replace(' ', '-')}-{self.seed}-{number}{source.suffix}"
        kept.write_bytes(damaged(source.read_bytes(), self.seed, number))
        self.failures.append({"file": kept.name, "source": source.name, "details": details})
        print(f"{kept}: {details}", flush=True)

    def as_record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "seed": self.seed,
            "counts": dict(self.counts),
            "by_format": {suffix: dict(counts) for suffix, counts in self.by_format.items()},
            "failures": self.failures,
        }


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for failing files")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.count} files", flush=True)
    with tempfile.TemporaryDirectory(prefix="srbatch-fuzz-") as name:
        folder = Path(name)
        (folder / "sources").mkdir()
        sources = [case.write(folder / "sources") for case in chosen()]
        phone = motion_photo(folder / "sources")
        sources += [phone] * (len(sources) // 8)
        bench = Bench(sources, arguments.seed, folder, arguments.keep)
        bench.run(arguments.count)
    record = bench.as_record()
    report.write(arguments.json, record)
    print(json.dumps({"counts": record["counts"], "by_format": record["by_format"]}, indent=1))
    sys.exit(1 if bench.counts["escaped"] else 0)


def chosen() -> list[Case]:
    """Up to twelve cases of each format in turn, with all metadata rather than none."""
    by_format: dict[Format, list[Case]] = {}
    for case in sorted(cases(), key=lambda case: (case.metadata != "all", case.number())):
        found = by_format.setdefault(case.format, [])
        if len(found) < 12:
            found.append(case)
    longest = max(map(len, by_format.values()))
    return [found[turn % len(found)] for turn in range(longest) for found in by_format.values()]


def motion_photo(folder: Path) -> Path:
    """A JPEG as phones write it: an index of pictures, a packet that tells of them, and a video behind."""
    file = io.BytesIO()
    first, second = crop(HEIGHT, WIDTH), crop(HEIGHT, WIDTH, left=0)
    first.save(file, "MPO", save_all=True, append_images=[second])
    packet = MOTION.format(' hdrgm:Version="1.0"').encode("utf-16-be")
    blocks = segment(0xE1, b"Exif\0\0" + block()) + segment(0xE1, XMP_ID + packet)
    path = folder / "motion.jpg"
    path.write_bytes(splice(file.getvalue(), 2, blocks) + VIDEO)
    return path


if __name__ == "__main__":
    main()
