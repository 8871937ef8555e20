"""Measure a folder of photos from files to files: srbatch beside its peers and its own limits.

    python -m tests.bench.folder [--photos DIR] [--device cuda]

JPEG photos become JPEG photos four times as large: DIR's, or ones of mixed size made from the sample
photographs of scikit-learn and scikit-image. The rows of the table take turns:

    srbatch           the real command, in a process of its own; its start, until the network is ready, is
                      told apart
    RRDBNet           the network of Real-ESRGAN x4plus with random weights, in tiles of 512 + 10 px, one at a
                      time, opened and saved by Pillow; fp16 on a GPU. On a CPU it is so slow that it gets a
                      crop of each photo, and its time is scaled by pixels
    naive loop        srbatch's network, called in the same plain loop in fp32
    bicubic           Pillow's resize in the same loop: a floor for whatever does something
    network alone     srbatch's upscaler on photos that lie decoded in memory, with nothing written
    codecs alone      srbatch's codec processes: decode, enlarge by repeating pixels, encode, read back

The last two are the limits: overlapped without loss, a run takes as long as the slower of them where they do
not compete for the same cores, and on a CPU up to as long as both together.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from srbatch import weights
from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.encode import Encoding
from srbatch.formats import Format
from srbatch.metadata import carrying
from srbatch.model import Model
from srbatch.options import ENGINES, Options
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.hardware import pick_device
from tests.bench import peers, report
from tests.bench.measured_run import started
from tests.bench.peers import QUALITY, SCALE
from tests.conftest import sample

SRBATCH, RRDB, NAIVE, BICUBIC = "srbatch", "RRDBNet", "naive loop", "bicubic"
NETWORK, CODECS = "network alone", "codecs alone"
"""The rows of the table."""
LARGEST_MP = {"cpu": 0.5, "cuda": 12.0, "mps": 2.0}
"""Of the photos that are made; the smallest has an eighth."""
RRDB_CROP_PX = 96
ROWS_AT_ONCE = 64


@dataclass
class Bench:
    """The photos, and what was found."""

    folder: Path
    """Of everything that is written."""
    photos: list[Path]
    device: torch.device
    engine: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By row, without what came before the first photo."""
    start_s: list[float] = field(default_factory=list)
    """Of srbatch, until its network was ready."""
    busy_s: list[float] = field(default_factory=list)
    """Of srbatch, in which its device was at work."""

    @property
    def options(self) -> Options:
        """Those of the command."""
        out = self.folder / "hi"
        return Options(inputs=(self.folder / "photos",), out=out, device=str(self.device), engine=self.engine)


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument("--photos", type=Path, metavar="DIR", help="JPEG photos, in a tree  [default: made]")
    flags.add_argument("--count", type=int, default=12, help="of photos made  [default: 12]")
    flags.add_argument("--largest", type=float, metavar="MP", help="of them  [default: 0.5, on a GPU 12]")
    flags.add_argument("--device", default="auto", help="[default: auto]")
    flags.add_argument("--engine", choices=ENGINES, default="auto", help="of srbatch  [default: auto]")
    flags.add_argument("--runs", type=int, default=1, help="of each row of the table  [default: 1]")
    flags.add_argument("--skip", nargs="*", choices=(RRDB, NAIVE), default=(), help="leave out a row")
    report.add_folder(flags)
    arguments = flags.parse_args()
    device = pick_device(arguments.device)
    with tempfile.TemporaryDirectory(prefix="srbatch-folder-", dir=arguments.folder) as made:
        largest_mp = arguments.largest or LARGEST_MP[device.type]
        photos = gather(arguments.photos, Path(made).resolve() / "photos", arguments.count, largest_mp)
        bench = Bench(Path(made).resolve(), photos, device, arguments.engine)
        measure(bench, arguments.runs, [row for row in ROWS if row not in arguments.skip])
        pixels = sum(map(pixels_of, photos))
    print(f"{report.machine(device)}; {len(photos)} photos of {pixels / 1e6:.2f} MP together, x{SCALE}")
    print_figures(bench, pixels * SCALE**2)
    record = {"device": str(device), "photos": len(photos), "pixels": pixels, "seconds": bench.seconds}
    report.write(arguments.json, record | {"start_s": bench.start_s, "busy_s": bench.busy_s})


# ---- the photos ----------------------------------------------------------------------------------


def gather(given: Path | None, folder: Path, count: int, largest_mp: float) -> list[Path]:
    """Copy the JPEG photos of a tree into one new folder, or make some; return them."""
    folder.mkdir()
    if given is None:
        for index, image in enumerate(made_photos(count, largest_mp)):
            image.save(folder / f"{index:05}.jpg", quality=90)
    else:
        found = [path for path in given.rglob("*") if path.suffix.lower() in Format.JPEG.suffixes]
        for index, path in enumerate(sorted(found)):
            shutil.copy(path, folder / f"{index:05}.jpg")
        if not found:
            raise SystemExit(f"there is no JPEG photo below {given}")
    return sorted(folder.iterdir())


def made_photos(count: int, largest_mp: float) -> Iterator[Image.Image]:
    """Sample photographs, every third upright, enlarged to sizes from an eighth of the largest on."""
    from skimage import data

    samples = [sample("china.jpg"), sample("flower.jpg")]
    samples += [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea")]
    for index in range(count):
        image = Image.fromarray(samples[index % len(samples)])
        pixels = largest_mp * 1e6 * 8 ** (index / max(count - 1, 1) - 1)
        factor = math.sqrt(pixels / (image.width * image.height))
        image = image.resize((round(image.width * factor), round(image.height * factor)))
        yield image.transpose(Image.Transpose.ROTATE_90) if index % 3 == 2 else image


def pixels_of(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


# ---- the rows of the table; each returns seconds ----------------------------------------------------


def srbatch_command(bench: Bench) -> float:
    notes = bench.folder / "notes.json"
    line: list[str | Path] = ["upscale", bench.folder / "photos", "--out", bench.folder / "hi", "--quiet"]
    line += ["--scale", str(SCALE), "--device", str(bench.device), "--engine", bench.engine]
    process = started(line, notes)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"srbatch ended with exit code {process.returncode}:\n{said}")
    times = json.loads(notes.read_text())
    bench.start_s.append(times["ready"])
    bench.busy_s.append(times["busy"])
    return float(times["wall"] - times["ready"])


def rrdb_net(bench: Bench) -> float:
    dtype = torch.float32 if bench.device.type == "cpu" else torch.float16
    network = peers.RRDBNet().eval().to(bench.device, dtype)
    photos, share = bench.photos, 1.0
    if bench.device.type == "cpu":
        photos = crops(bench.photos, bench.folder / "crops")
        share = sum(map(pixels_of, photos)) / sum(map(pixels_of, bench.photos))
    return plain_loop(bench, photos, peers.by_network(network, bench.device, dtype)) / share


def naive_loop(bench: Bench) -> float:
    network = peers.Naive(weights.load(weights.find(bench.options.model)).network).eval().to(bench.device)
    return plain_loop(bench, bench.photos, peers.by_network(network, bench.device, torch.float32))


def bicubic(bench: Bench) -> float:
    return plain_loop(bench, bench.photos, peers.bicubic)


def plain_loop(bench: Bench, photos: list[Path], enlarge: peers.Enlarge) -> float:
    smallest = min(photos, key=pixels_of)
    peers.loop([smallest], bench.folder / "warm", enlarge)  # algorithms are chosen and memory is taken
    start = time.perf_counter()
    peers.loop(photos, bench.folder / "peer", enlarge)
    return time.perf_counter() - start


def crops(photos: list[Path], folder: Path) -> list[Path]:
    """Cut the middle out of each photo."""
    folder.mkdir(exist_ok=True)
    for photo in photos:
        with Image.open(photo) as image:
            left, top = ((side - RRDB_CROP_PX) // 2 for side in image.size)
            cut = image.crop((left, top, left + RRDB_CROP_PX, top + RRDB_CROP_PX))
            cut.convert("RGB").save(folder / photo.name, quality=90)
    return sorted(folder.iterdir())


def network_alone(bench: Bench) -> float:
    upscaler = Model(bench.options).upscaler
    decoded = []
    for photo in bench.photos:
        with Image.open(photo) as image:
            decoded.append(np.asarray(image.convert("RGB")))

    def enlarge(pixels: Pixels) -> None:
        size = (pixels.shape[0] * SCALE, pixels.shape[1] * SCALE)
        for _ in upscaler.enlarge(pixels, size):
            pass

    enlarge(min(decoded, key=lambda pixels: pixels.size))
    start = time.perf_counter()
    for pixels in decoded:
        enlarge(pixels)
    return time.perf_counter() - start


def codecs_alone(bench: Bench) -> float:
    options = bench.options
    with (
        CodecPool(timeout_s=options.codec_timeout_s, memory_mb=options.codec_memory_mb) as codecs,
        ThreadPoolExecutor(codecs.workers) as threads,
    ):

        def each(photo: Path) -> None:
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                decode_and_encode(photo, Path(folder), codecs)

        list(threads.map(each, bench.photos[: codecs.workers]))  # the processes are there
        start = time.perf_counter()
        list(threads.map(each, bench.photos))
        return time.perf_counter() - start


def decode_and_encode(photo: Path, folder: Path, codecs: CodecPool) -> None:
    """What the codecs have to do for a photo; each of its pixels becomes ``SCALE`` x ``SCALE``."""
    picture = codecs.decode(photo, folder / "photo.raw", math.inf)
    pixels = picture.pixels()
    height, width, channels = pixels.shape
    with (folder / "enlarged.raw").open("wb") as file:
        for top in range(0, height, ROWS_AT_ONCE):
            band = pixels[top : top + ROWS_AT_ONCE]
            file.write(band.repeat(SCALE, axis=0).repeat(SCALE, axis=1).data)
    size = {"height": height * SCALE, "width": width * SCALE}
    encoding = Encoding(
        format=Format.JPEG,
        channels=channels,
        bits=8,
        quality=QUALITY,
        lossless=False,
        metadata=carrying.for_output(
            picture.metadata, Format.JPEG, provenance=None, new_colours=False, resolution=None, **size
        ),
        resolution=None,
        **size,
    )
    codecs.encode(folder / "enlarged.raw", folder / "enlarged.jpg", encoding)


ROWS: dict[str, Callable[[Bench], float]] = {
    SRBATCH: srbatch_command,
    RRDB: rrdb_net,
    NAIVE: naive_loop,
    BICUBIC: bicubic,
    NETWORK: network_alone,
    CODECS: codecs_alone,
}


def measure(bench: Bench, runs: int, rows: list[str]) -> None:
    """Time the rows in turn."""
    for _ in range(runs):
        for row in rows:
            bench.seconds.setdefault(row, []).append(ROWS[row](bench))
            for written in ("hi", "peer", "warm"):
                shutil.rmtree(bench.folder / written, ignore_errors=True)
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()  # the next one chooses its tiles by what is free


# ---- telling -------------------------------------------------------------------------------------


def print_figures(bench: Bench, pixels_out: int) -> None:
    seconds = {row: median(found) for row, found in bench.seconds.items()}
    ours = seconds[SRBATCH]
    rows = [(row, s, pixels_out / s / 1e6, s / ours) for row, s in seconds.items()]
    print(report.table(["", "s", "output MP/s", "srbatch is x as fast"], rows))
    if RRDB in seconds and bench.device.type == "cpu":
        print(f"{RRDB}: on crops of {RRDB_CROP_PX} px, scaled by pixels")
    limits = seconds[NETWORK], seconds[CODECS]
    print(f"srbatch: {median(bench.start_s):.1f} s until its network was ready, not counted above;")
    print(f"  its device was busy {median(bench.busy_s) / ours:.0%} of the time;")
    print(
        f"  it reached {max(limits) / ours:.0%} of the slower limit, {sum(limits) / ours:.0%} of both in turn"
    )


if __name__ == "__main__":
    main()
