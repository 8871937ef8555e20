"""Let a watcher run for long while files come, change and go, and while it is killed; then count.

    python -m tests.bench.soak [--minutes 10] [--seed 0] [--keep-originals]

Photos are flat pictures, each of a colour of its own, so that an output tells which photo it is of. They
come at random moments: at once, in chunks with pauses, under another name that is changed, in folders, under
names that were used before; some are rewritten in place or renamed; some files are garbage or cut short. In
the first half the watcher is killed, stopped and told to look again; in the second half it is left alone,
and its memory, file handles and threads are measured. Finished originals are moved (--done, --failed), or
with ``--keep-originals`` stay where they are.

At the end, faults are:  missing   a good photo has no output, or it has more than one
                         wrong     an output is not a whole picture of the photo that it is to be of
                         unlisted  a bad file is not told of: in the ledger, or with a text beside it
                         left      anything else in the output tree, or an original that did not move
                         lost      an original that is nowhere any more
                         ended     the watcher ended otherwise than it was told to
                         grown     memory, handles or threads, over the second half
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from srbatch.outputs.ledger import STATE_FOLDER, Ledger

ROOT = Path(__file__).parents[2]
FAULTS = ("missing", "wrong", "unlisted", "left", "lost", "ended", "grown")
OURS = {f"{STATE_FOLDER}/{name}" for name in ("ledger.sqlite", "lock", "watch.json")}
SAMPLE_S = 5.0
MOST_GROWTH = 1.10
"""Of memory, from the middle of the second half to its end."""

Colour = tuple[int, int, int]


@dataclass
class World:
    """The folders, and what was put there."""

    top: Path
    random_: random.Random
    moves: bool
    good: dict[Colour, bytes] = field(default_factory=dict)
    """The bytes of every good photo that ever came."""
    made: int = 0
    """How many photos ever came; names and colours follow from it."""
    overwritten: set[Colour] = field(default_factory=set)
    """Good photos that something else took the place of, perhaps before they were taken."""
    bad: dict[str, bytes] = field(default_factory=dict)
    """Bad files by name."""
    there: dict[Path, Colour] = field(default_factory=dict)
    """What lies under each name, by our doing."""
    count: Counter[str] = field(default_factory=Counter)
    slow: list[tuple[float, Path, bytes, Colour]] = field(default_factory=list)
    """Copies that are under way: when the next piece is due, where, what is missing, which photo."""

    @property
    def drop(self) -> Path:
        return self.top / "drop"

    def photo(self) -> tuple[Colour, bytes]:
        self.made += 1  # not the number of good ones, of which some turn out to be none
        colour = (self.made & 255, self.made >> 8 & 255, self.random_.randrange(256))
        file = io.BytesIO()
        size = (self.random_.randint(8, 60), self.random_.randint(8, 40))
        picture = Image.fromarray(np.full((size[1], size[0], 3), colour, np.uint8))
        picture.save(file, self.random_.choice(("PNG", "TIFF")))
        self.good[colour] = file.getvalue()
        return colour, file.getvalue()

    def name(self) -> Path:
        folder = self.random_.choice(("", "", "a", "a/b", "c"))
        (self.drop / folder).mkdir(parents=True, exist_ok=True)
        # Few numbers, so that they come again, as those of a camera.
        return self.drop / folder / f"IMG_{self.random_.randrange(40):04}.png"

    def put(self, path: Path, colour: Colour) -> None:
        before = self.there.get(path)
        if before is not None:
            self.overwritten.add(before)
        self.there[path] = colour

    def act(self) -> None:
        """One thing happens."""
        kinds = ("at once", "at once", "slowly", "renamed into place", "folder", "bad", "rewrite", "rename")
        kind = self.random_.choice(kinds)
        self.count[kind] += 1
        getattr(self, "_" + kind.replace(" ", "_"))()

    def go_on(self) -> None:
        """Write the next pieces of slow copies."""
        now, waiting = time.monotonic(), []
        for due, path, rest, colour in self.slow:
            if now < due:
                waiting.append((due, path, rest, colour))
                continue
            piece = self.random_.randint(1, max(len(rest) // 2, 1))
            try:
                with path.open("r+b") as file:  # never made anew: it may have been moved meanwhile
                    file.seek(0, os.SEEK_END)
                    file.write(rest[:piece])
            except FileNotFoundError:
                self.good.pop(colour)
                continue
            if rest[piece:]:
                pause = self.random_.choice((0.1, 0.5, 4.0))
                waiting.append((now + pause, path, rest[piece:], colour))
        self.slow = waiting

    def _at_once(self) -> None:
        colour, data = self.photo()
        path = self.name()
        if self._is_being_written(path):
            self.good.pop(colour)
            return
        self.put(path, colour)
        path.write_bytes(data)

    def _slowly(self) -> None:
        colour, data = self.photo()
        path = self.drop / f"slow_{self.made:05}.png"
        path.write_bytes(data[:20])
        self.there[path] = colour
        self.slow.append((time.monotonic() + 0.3, path, data[20:], colour))

    def _renamed_into_place(self) -> None:
        colour, data = self.photo()
        temp, path = self.drop / f".{self.made}.tmp", self.name()
        temp.write_bytes(data)
        self.put(path, colour)
        temp.replace(path)

    def _folder(self) -> None:
        folder = self.top / f"roll_{self.made:05}"
        folder.mkdir()
        for number in range(300 if self.random_.random() < 0.01 else self.random_.randint(2, 12)):
            colour, data = self.photo()
            (folder / f"{number}.png").write_bytes(data)
            self.there[self.drop / folder.name / f"{number}.png"] = colour
        folder.rename(self.drop / folder.name)

    def _bad(self) -> None:
        data = self.random_.randbytes(self.random_.randint(0, 3000))
        if self.random_.random() < 0.5:
            _, whole = self.photo()
            self.good.popitem()
            data = whole[: len(whole) * 2 // 3]
        name = f"bad_{len(self.bad):05}.png"
        (self.drop / name).write_bytes(data)
        self.bad[name] = data

    def _rewrite(self) -> None:
        paths = [path for path in self.there if path.name.startswith("IMG")]
        if paths:
            path = self.random_.choice(paths)
            colour, data = self.photo()
            self.put(path, colour)
            path.write_bytes(data)

    def _rename(self) -> None:
        paths = [path for path in self.there if path.name.startswith("IMG") and path.exists()]
        if not paths:
            return
        path = self.random_.choice(paths)
        new = path.with_name(f"renamed_{self.made:05}_{self.count['rename']}.png")
        try:
            path.rename(new)
        except FileNotFoundError:
            return
        self.there[new] = self.there.pop(path)
        self.overwritten.add(self.there[new])  # it may have two outputs, one for each name

    def _is_being_written(self, path: Path) -> bool:
        return any(path == other for _, other, _, _ in self.slow)


class Daemon:
    """The watcher, and what it takes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._log = (world.top / "log").open("ab")
        self.samples: list[tuple[float, float, int, int]] = []
        """(seconds, MB, file handles, threads)"""
        self.bad_ends: list[str] = []
        self._sampled = 0.0
        self._begin = time.monotonic()
        self.start()

    def start(self) -> None:
        folders = [self._world.drop, self._world.top / "hi"]
        if self._world.moves:
            folders += [self._world.top / "done", self._world.top / "failed"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.watched_run", *folders],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=self._log,
            start_new_session=True,
        )

    def sample(self) -> None:
        """Measure, now and then."""
        if time.monotonic() - self._sampled >= SAMPLE_S:
            self._sampled = time.monotonic()
            process = psutil.Process(self.process.pid)
            megabytes = process.memory_info().rss / 1e6
            self.samples.append(
                (self._sampled - self._begin, megabytes, process.num_fds(), process.num_threads())
            )

    def disturb(self, random_: random.Random, count: Counter[str]) -> None:
        """Kill it, stop it, or tell it to look again."""
        kind = random_.choice(("SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP"))
        count[kind] += 1
        if kind == "SIGKILL":
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.start()
        elif kind == "SIGTERM":
            self.stop()
            self.start()
        else:
            self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ask it to end."""
        self.process.terminate()
        code = self.process.wait(timeout=60)
        if code not in (0, -signal.SIGTERM):  # the latter while it still starts
            self.bad_ends.append(f"{code}: {(self._world.top / 'log').read_text()[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="[default: 10]")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when  [default: 0]")
    parser.add_argument("--keep-originals", action="store_true", help="without --done and --failed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and the curve there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="srbatch-soak-") as made:
        world = World(Path(made).resolve(), random.Random(arguments.seed), not arguments.keep_originals)
        world.drop.mkdir()
        daemon = Daemon(world)
        try:
            let_things_happen(world, daemon, arguments.minutes * 60)
            await_rest(world)
            faults = check(world)
            faults["grown"] = growth(daemon)
            daemon.stop()
            faults["ended"] = daemon.bad_ends
        finally:
            if daemon.process.poll() is None:
                os.killpg(daemon.process.pid, signal.SIGKILL)
        report(world, daemon, faults, arguments.json)
        if any(faults.values()):
            print((world.top / "log").read_text()[-4000:], file=sys.stderr)
    sys.exit(1 if any(faults.values()) else 0)


def let_things_happen(world: World, daemon: Daemon, seconds: float) -> None:
    """Photos come for the whole time; the watcher is disturbed in the first half of it."""
    begin = time.monotonic()
    next_act = next_blow = begin
    while (now := time.monotonic()) < begin + seconds:
        world.go_on()
        if now >= next_act:
            world.act()
            next_act = now + world.random_.expovariate(1.5)
        if now < begin + seconds / 2:
            if now >= next_blow:
                next_blow = now + world.random_.uniform(3, 25)
                if now > begin + 10:
                    daemon.disturb(world.random_, world.count)
        else:
            assert daemon.process.poll() is None, "the watcher ended"
            daemon.sample()
        time.sleep(0.05)
    while world.slow:
        world.go_on()
        time.sleep(0.05)


def await_rest(world: World) -> None:
    """Wait until nothing has changed in any folder for longer than the pauses between two tries."""
    before, since = None, time.monotonic()
    while time.monotonic() - since < 30:
        now = sorted(
            (os.fspath(p), p.lstat().st_mtime_ns) for p in world.top.rglob("*") if p.suffix != ".json"
        )
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(1)


# ---- checks --------------------------------------------------------------------------------------


def check(world: World) -> dict[str, list[str]]:
    """Look for faults once the watcher is at rest."""
    faults: dict[str, list[str]] = {fault: [] for fault in FAULTS}
    out, outputs = world.top / "hi", Counter[Colour]()
    listed = failures(out)
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name in OURS or name == f"{STATE_FOLDER}/ledger.sqlite-journal":
            continue
        if path.suffix != ".png":
            faults["left"].append(name)
            continue
        colour = colour_of(path)
        if colour not in world.good:
            faults["wrong"].append(f"{name}, which {look_of(path)}")
        else:
            outputs[colour] += 1
    (check_moved if world.moves else check_kept)(world, outputs, listed, faults)
    return faults


def check_moved(
    world: World, outputs: Counter[Colour], listed: set[str], faults: dict[str, list[str]]
) -> None:
    """Every original lies among the done or the failed, and each of the done has one output."""
    done, failed = world.top / "done", world.top / "failed"
    faults["left"] += [p.relative_to(world.top).as_posix() for p in world.drop.rglob("*") if p.is_file()]
    kept = Counter(p.read_bytes() for p in done.rglob("*") if p.is_file())
    given_up = {p.read_bytes(): p for p in failed.rglob("*.png")}
    for colour, data in world.good.items():
        if data not in kept and colour not in world.overwritten:
            faults["lost"].append(f"photo {colour}")
        if kept[data] and not 1 <= outputs[colour] <= 1 + (colour in world.overwritten):
            faults["missing"].append(f"photo {colour} has {outputs[colour]} outputs")
    for name, data in world.bad.items():
        path = given_up.get(data)
        if path is None:
            faults["lost"].append(name)
        elif not path.with_name(f"{path.name}.txt").exists() or f"../failed/{path.name}" not in listed:
            faults["unlisted"].append(name)


def check_kept(
    world: World, outputs: Counter[Colour], listed: set[str], faults: dict[str, list[str]]
) -> None:
    """Every file that is there has its output under the same name, or is listed."""
    for path, colour in world.there.items():
        output = world.top / "hi" / path.relative_to(world.drop)
        if (
            not output.exists()
            or colour_of(output) != colour
            or outputs[colour] > 1 + (colour in world.overwritten)
        ):
            faults["missing"].append(f"{path.name} of {colour}, which has {outputs[colour]}")
        if path.read_bytes() != world.good[colour]:
            faults["lost"].append(path.name)
    faults["unlisted"] += [name for name in world.bad if f"../drop/{name}" not in listed]


def failures(out: Path) -> set[str]:
    """The sources of all failures in the ledger."""
    ledger = Ledger.open_readonly(out / STATE_FOLDER)
    found = {row.source for row in ledger.failures()}
    ledger.close()
    return found


def colour_of(path: Path) -> Colour | None:
    """Of a flat picture; None where it is not one, or not whole."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except OSError:
        return None
    return tuple(map(int, pixels[0])) if (pixels == pixels[0]).all() else None  # type: ignore[return-value]


def look_of(path: Path) -> str:
    """For people: what a picture that should be flat is."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except OSError as error:
        return f"cannot be read: {error}"
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    return f"has {list(zip(colours.tolist(), counts.tolist(), strict=True))[:3]}"


def growth(daemon: Daemon) -> list[str]:
    """What has grown from the second quarter of the samples to the last."""
    quarter = len(daemon.samples) // 4
    if not quarter:
        return []
    early, late = daemon.samples[quarter : 2 * quarter], daemon.samples[-quarter:]
    grown = []
    for index, name, slack in ((1, "MB", 0.0), (2, "handles", 2.0), (3, "threads", 2.0)):
        before, after = (sum(s[index] for s in part) / len(part) for part in (early, late))
        if after > before * (MOST_GROWTH if index == 1 else 1.0) + slack:
            grown.append(f"{name}: {before:.1f} -> {after:.1f}")
    return grown


def report(world: World, daemon: Daemon, faults: dict[str, list[str]], path: Path | None) -> None:
    print(f"{len(world.good)} good photos, {len(world.bad)} bad files")
    print(", ".join(f"{name}: {n}" for name, n in sorted(world.count.items())))
    print(f"\n{'seconds':>8} {'MB':>8} {'handles':>8} {'threads':>8}")
    for sample in daemon.samples[:: max(len(daemon.samples) // 12, 1)]:
        print(f"{sample[0]:8.0f} {sample[1]:8.1f} {sample[2]:8} {sample[3]:8}")
    print()
    for fault, cases in faults.items():
        print(f"{fault:10} {len(cases):5}  {'; '.join(cases[:5])}")
    if path:
        record = {"good": len(world.good), "bad": len(world.bad), "count": world.count, "faults": faults}
        path.write_text(json.dumps({**record, "samples": daemon.samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
