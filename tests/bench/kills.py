"""Kill runs with SIGKILL at random moments and check what they promise: nothing partial, redone or lost.

    python -m tests.bench.kills [--kills 200] [--seed 0]

Twenty photos in a tree, of all formats and several sizes, are upscaled by ``killed_run.py`` in a process of
its own. Its whole process group is killed, the same archive is taken up again and killed again until a run
reaches its end, and then the next archive begins. Half of the moments are spread over the length of an
uninterrupted run, from the start of the interpreter on; a quarter lie within the life of a temporary file,
and a quarter just behind the rename to the final name. An uninterrupted run gives the bytes that every
output must have.

After each kill:  partial  a file under a final name is not, byte for byte, the finished output
                  redone   a photo that was finished is started again, or its output is another file
                  lost     an output that was there has gone
At each end:      lost     an output is missing or unknown to the ledger, or a photo failed
                  left     a temporary or scratch file that a killed run made is still there
                  changed  an original is not as it was
The exit code is 1 where one of them is not zero.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from PIL import Image

from srbatch.errors import ExitCode
from srbatch.outputs.commit import TEMP_SUFFIX
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.reporting.inspection import verify
from tests.bench.killed_run import SCALE
from tests.conftest import crop

PHOTOS = 20
ROOT = Path(__file__).parents[2]
FAULTS = ("partial", "redone", "lost", "left", "changed")
ANY, TEMP, FINAL = "start of the process", "a temporary file", "a final name"
"""What a moment is counted from."""
FEW = 4
"""Photos after which, at the most, a run is killed: more kills an archive."""
RENAME_S = 0.01
"""The latest kill after a final name appears; the ledger has its note by then."""
POLL_S = 0.0005


@dataclass
class Tally:
    """What was done and found."""

    kills: Counter[str] = field(default_factory=Counter)
    """By how the moment was chosen."""
    states: Counter[str] = field(default_factory=Counter)
    """Kills by what they left."""
    archives: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {fault: [] for fault in FAULTS})


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run makes, and how long it takes."""

    outputs: dict[str, bytes]
    """By name below the output folder."""
    sizes: dict[str, tuple[int, int]]
    """(width, height) of the outputs."""
    start_s: float
    """Until the first temporary file is there."""
    whole_s: float
    temp_s: float
    """The median life of a temporary file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="[default: 200]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments  [default: 0]")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="work there  [default: system's]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="srbatch-kills-", dir=arguments.folder) as made:
        folder = Path(made).resolve()
        make_photos(folder / "photos")
        originals = fingerprints(folder / "photos")
        reference = run_uninterrupted(folder)
        print(
            f"uninterrupted: {reference.whole_s:.2f} s, the first temporary file at {reference.start_s:.2f} s"
        )
        tally, random_ = Tally(), random.Random(arguments.seed)
        while tally.kills.total() < arguments.kills:
            kill_until_finished(folder, reference, tally, random_, arguments.kills)
            if fingerprints(folder / "photos") != originals:
                tally.faults["changed"].append(f"archive {tally.archives}")
            print(f"{tally.kills.total()} kills so far", file=sys.stderr)
    print_table(tally)
    if arguments.json:
        record = {"seed": arguments.seed, "archives": tally.archives, "kills": tally.kills}
        record |= {"states": tally.states, "faults": tally.faults}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(1 if any(tally.faults.values()) else 0)


# ---- the photos and what they become -------------------------------------------------------------


def make_photos(top: Path) -> None:
    """Write ``PHOTOS`` pieces of a photograph in four formats, grey and with alpha among them, in a tree."""
    folders = (top, top / "1999", top / "1999" / "summer", top / "2004")
    for index in range(PHOTOS):
        folder, suffix = folders[index * 7 % 4], (".jpg", ".png", ".tif", ".webp")[index % 4]
        folder.mkdir(parents=True, exist_ok=True)
        piece = crop(30 + 11 * index, 260 - 9 * index, top=5 * index, left=10 * index)
        if index % 5 == 4:
            piece = piece.convert("L")
        if index % 8 == 5:
            piece.putalpha(crop(*piece.size[::-1], top=0, left=0).convert("L"))
        piece.save(folder / f"{index:02}{suffix}", quality=90)


def fingerprints(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and date of every file below a folder."""
    return {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in files(folder).items()}


def files(folder: Path) -> dict[str, Path]:
    """All files below a folder, by their names below it; a run may be at work in it."""
    found = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def outputs(out: Path) -> dict[str, Path]:
    """What lies under final names."""
    return {
        name: path
        for name, path in files(out).items()
        if not name.startswith(STATE_FOLDER) and path.suffix != TEMP_SUFFIX
    }


def temps(out: Path) -> set[Path]:
    """The temporary files of outputs."""
    return {path for path in files(out).values() if path.suffix == TEMP_SUFFIX}


def run_uninterrupted(folder: Path) -> Reference:
    """Run twice into two folders, which must get the same bytes, and watch the second run."""
    made = {}
    for out in (folder / "warm", folder / "reference"):
        lives: dict[Path, list[float]] = {}
        start = time.monotonic()
        with started(folder, out) as process:
            while process.poll() is None:
                now = time.monotonic() - start
                for temp in temps(out):
                    lives.setdefault(temp, []).append(now)
                time.sleep(POLL_S)
            whole_s = time.monotonic() - start
            _, said = process.communicate()
        if process.returncode != ExitCode.DONE:
            raise SystemExit(f"an uninterrupted run ended with exit code {process.returncode}:\n{said}")
        made[out] = {name: path.read_bytes() for name, path in outputs(out).items()}
    if len({tuple(found.items()) for found in made.values()}) != 1:
        raise SystemExit("two uninterrupted runs made different outputs")
    sizes = {}
    for name, path in files(folder / "photos").items():
        with Image.open(path) as image:
            sizes[name] = (image.width * SCALE, image.height * SCALE)
    first_s = min(life[0] for life in lives.values())
    temp_s = median(life[-1] - life[0] for life in lives.values())
    reference = Reference(made[out], sizes, first_s, whole_s, temp_s)
    bad = [name for name, path in outputs(out).items() if problem_of(path, name, reference)]
    if bad or reference.outputs.keys() != sizes.keys():
        raise SystemExit(f"an uninterrupted run made bad outputs, or too few: {bad}")
    return reference


# ---- processes and moments -----------------------------------------------------------------------


def started(folder: Path, out: Path) -> subprocess.Popen[str]:
    """Start a run in a process group of its own; its standard error is open until all of it has ended."""
    (folder / "log").unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.killed_run", folder / "photos", out, folder / "log"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Moment:
    """When a run is killed: some time after its ``count``-th event."""

    kind: str
    count: int
    delay_s: float

    @classmethod
    def draw(cls, random_: random.Random, reference: Reference, missing: int) -> Moment:
        """A moment in a run that has ``missing`` photos to do."""
        kind = random_.choice((ANY, ANY, TEMP, FINAL))
        if kind == ANY:
            photos_s = (reference.whole_s - reference.start_s) * missing / PHOTOS
            return cls(kind, 0, random_.uniform(0, reference.start_s + photos_s))
        delay_s = random_.uniform(0, reference.temp_s if kind == TEMP else RENAME_S)
        return cls(kind, random_.randint(1, max(min(missing, FEW), 1)), delay_s)

    def await_in(self, process: subprocess.Popen[str], out: Path) -> None:
        """Return at the moment, or when the run has ended before it."""
        before, since = events(self.kind, out), set[Path]()
        while len(since) < self.count and process.poll() is None:
            time.sleep(POLL_S)
            since |= events(self.kind, out) - before
        due = time.monotonic() + self.delay_s
        while process.poll() is None and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))

    def __str__(self) -> str:
        return f"{self.delay_s:.4f} s after {self.kind}" + (f" no. {self.count}" if self.count else "")


def events(kind: str, out: Path) -> set[Path]:
    """What happened so far, of the kind that a moment waits for."""
    if kind == TEMP:
        return temps(out)
    return set(outputs(out).values()) if kind == FINAL else set()


def kill_until_finished(
    folder: Path, reference: Reference, tally: Tally, random_: random.Random, most_kills: int
) -> None:
    """Begin an archive and kill its runs until one reaches the end; with the last kill used, one may."""
    tally.archives += 1
    archive = Archive(folder / f"hi{tally.archives}", reference, tally)
    ended = False
    while not ended:
        moment = Moment.draw(random_, reference, PHOTOS - len(archive.finished))
        with started(folder, archive.out) as process:
            if tally.kills.total() < most_kills:
                moment.await_in(process, archive.out)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()  # until the worker has ended, too
        ended = process.returncode != -signal.SIGKILL
        log = folder / "log"
        begun = set(log.read_text().splitlines()) if log.exists() else set()
        if not ended:
            tally.kills[moment.kind] += 1
            tally.states[archive.state(begun)] += 1
        archive.check_run(begun, f"archive {tally.archives}, {'end' if ended else moment}")
    archive.check_end(process.returncode, said)
    shutil.rmtree(archive.out)


# ---- checks --------------------------------------------------------------------------------------


class Archive:
    """An output folder whose runs are killed."""

    def __init__(self, out: Path, reference: Reference, tally: Tally) -> None:
        self.out = out
        self.finished: dict[str, tuple[int, int]] = {}
        """Inode and date of the outputs that were there after a run."""
        self._reference = reference
        self._faults = tally.faults
        self._temps: set[Path] = set()

    def state(self, begun: set[str]) -> str:
        """What a kill left, in words."""
        if temps(self.out):
            if set(map(inode, temps(self.out))) & set(map(inode, outputs(self.out).values())):
                return "final name given, temporary name there"
            return "temporary file there"
        if outputs(self.out).keys() - self._noted():
            return "final name given, not yet in the ledger"
        return "between temporary files" if begun else "no photo begun"

    def _noted(self) -> set[str]:
        """The targets that the ledger knows, read from a copy: opening it would put a cut-off write right."""
        state = self.out / STATE_FOLDER
        with tempfile.TemporaryDirectory() as copy:
            for path in state.glob("ledger.sqlite*"):
                shutil.copy(path, copy)
            ledger = Ledger.open(Path(copy))
            noted = {row.target for row in ledger.rows()}
            ledger.close()
        return noted

    def check_run(self, begun: set[str], where: str) -> None:
        """Look for faults after a run that began the photos ``begun`` and was killed or has ended."""
        found = outputs(self.out)
        for name, path in found.items():
            if problem := problem_of(path, name, self._reference):
                self._faults["partial"].append(f"{where}: {name} {problem}")
        for name, identity in self.finished.items():
            if name not in found:
                self._faults["lost"].append(f"{where}: {name} was there before")
            elif name in begun or identity != (inode(found[name]), found[name].stat().st_mtime_ns):
                self._faults["redone"].append(f"{where}: {name}")
        self.finished = {name: (inode(path), path.stat().st_mtime_ns) for name, path in found.items()}
        there = temps(self.out)
        if begun:  # it got past the clearing up
            self._faults["left"] += [f"{where}: {temp.name}" for temp in self._temps & there]
        self._temps = there

    def check_end(self, code: int, said: str) -> None:
        """Look for faults after a run that ended by itself, with an exit code and words of failed photos."""
        if code != ExitCode.DONE:
            self._faults["lost"].append(f"{self.out.name}: exit code {code}: {said}")
        expected = self._reference.outputs.keys()
        self._faults["lost"] += [f"{self.out.name}: {name}" for name in expected - self.finished.keys()]
        verified = verify(self.out, None)
        if verified.problems or verified.sound != len(expected):
            self._faults["lost"].append(f"{self.out.name}: the ledger says {verified.lines()}")
        known = {*expected, f"{STATE_FOLDER}/ledger.sqlite", f"{STATE_FOLDER}/lock"}
        self._faults["left"] += [f"{self.out.name}: {name}" for name in files(self.out).keys() - known]


def inode(path: Path) -> int:
    return path.stat().st_ino


def problem_of(path: Path, name: str, reference: Reference) -> str | None:
    """Why a file under a final name is not the finished output, if it is not."""
    try:
        with Image.open(path) as image:
            image.load()
            size = image.size
    except OSError as error:
        return f"cannot be read: {error}"
    if size != reference.sizes.get(name):
        return f"has {size} pixels"
    return None if path.read_bytes() == reference.outputs[name] else "has other bytes"


def print_table(tally: Tally) -> None:
    print(f"{tally.kills.total()} kills in {tally.archives} archives of {PHOTOS} photos")
    for title, counts in (("moment", tally.kills), ("what it left", tally.states)):
        print(f"\n{title:44} kills")
        for name, count in sorted(counts.items()):
            print(f"  {name:42} {count:5}")
    print(f"\n{'fault':44} found")
    for fault, cases in tally.faults.items():
        print(f"  {fault:42} {len(cases):5}")
        for case in cases:
            print(f"    {case}")


if __name__ == "__main__":
    main()
