"""Measure what a ledger of a million photos costs beside one of a thousand.

    python -m tests.bench.ledger_size [--rows 1000000]

Both are filled with copies of one row under other names, a thousand to a folder. Then they take turns: to
open and close the file, to look up rows by chance, to record an outcome (it is on the disk when that returns)
with the notes that go before it, and to read all of it as ``srbatch status`` does. Only the last may grow, in
proportion. The files are in the system's cache.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.rows import Row
from srbatch.reporting import inspection
from tests.bench import report

FEW = 1000
OPENINGS = 20
LOOKUPS = 1000
OUTCOMES = 50
PER_FOLDER = 1000
EXAMPLE = Row(
    target="example.jpg",
    status="done",
    source="../photos/example.jpg",
    size=3_141_592,
    mtime_ns=1_600_000_000_000_000_000,
    sha256="0" * 64,
    recipe='{"format": null, "model": "' + "0" * 64 + '", "quality": 95, "size": "x4", "strength": 1.0}',
    target_size=27_182_818,
    target_sha256="0" * 64,
    details='{"device": "cuda", "precision": "bf16", "tile": 512, "batch": 8, "seconds": 1.234, '
    '"size_in": [3000, 4000], "size_out": [12000, 16000], "notes": []}',
    finished=1_700_000_000.0,
)


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="[default: 1000000]")
    flags.add_argument("--runs", type=int, default=5, help="of each row of the table  [default: 5]")
    report.add_folder(flags)
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory(prefix="srbatch-ledger-", dir=arguments.folder) as made:
        outs = {count: Path(made) / str(count) for count in (FEW, arguments.rows)}
        for count, out in outs.items():
            fill(out, count)
        seconds = measure(outs, arguments.runs)
        sizes = {count: size_of(out) for count, out in outs.items()}
    print(f"{arguments.rows} rows: {sizes[arguments.rows] / 1e6:.0f} MB, {FEW}: {sizes[FEW] / 1e6:.2f} MB")
    print(table(seconds, arguments.rows))
    report.write(arguments.json, {"rows": arguments.rows, "bytes": sizes, "seconds": seconds})


def name_of(index: int) -> str:
    """Of a target below the output folder."""
    return f"{index // PER_FOLDER:04}/IMG_{index:07}.jpg"


def fill(out: Path, count: int) -> None:
    """Make a ledger of so many rows; one at a time, each on the disk before the next, would take an hour."""
    state = out / STATE_FOLDER
    state.mkdir(parents=True)
    with closing(Ledger.open(state)) as ledger:
        ledger.start_run("srbatch upscale")
        ledger.record(EXAMPLE)
    (file,) = state.glob("*.sqlite")
    others = ",".join(field.name for field in fields(Row) if field.name != "target")
    with closing(sqlite3.connect(file)) as database, database:
        database.executemany(
            f"INSERT INTO photos (target,{others}) SELECT ?,{others} FROM photos WHERE target=?",
            ((name_of(index).encode(), EXAMPLE.target.encode()) for index in range(count - 1)),
        )


def size_of(out: Path) -> int:
    """Bytes of all files of a ledger."""
    return sum(path.stat().st_size for path in (out / STATE_FOLDER).iterdir())


# ---- what is timed; each returns the seconds that one of it takes ---------------------------------


def opening(out: Path, _: int) -> float:
    start = time.perf_counter()
    for _ in range(OPENINGS):
        Ledger.open(out / STATE_FOLDER).close()
    return (time.perf_counter() - start) / OPENINGS


def looking_up(out: Path, count: int) -> float:
    wanted = [name_of(random.randrange(count - 1)) for _ in range(LOOKUPS)]
    with closing(Ledger.open(out / STATE_FOLDER)) as ledger:
        start = time.perf_counter()
        found = [ledger.row(target) for target in wanted]
        taken = time.perf_counter() - start
    assert None not in found
    return taken / LOOKUPS


def recording(out: Path, count: int) -> float:
    rows = [replace(EXAMPLE, target=name_of(random.randrange(count - 1))) for _ in range(OUTCOMES)]
    with closing(Ledger.open(out / STATE_FOLDER)) as ledger:
        start = time.perf_counter()
        for row in rows:
            ledger.begin(row.target, f"{row.target}.part")
            ledger.about_to_commit(row)
            ledger.record(row)
        return (time.perf_counter() - start) / OUTCOMES


def telling_status(out: Path, count: int) -> float:
    start = time.perf_counter()
    found = inspection.status(out, None)
    taken = time.perf_counter() - start
    assert found.counts["done"] == count
    return taken


WORKS: dict[str, Callable[[Path, int], float]] = {
    "open and close": opening,
    "look up a row": looking_up,
    "record an outcome": recording,
    "srbatch status": telling_status,
}


def measure(outs: dict[int, Path], runs: int) -> dict[str, dict[int, list[float]]]:
    """Return the seconds of each work by the rows of the ledger; one comes first and is not counted."""
    seconds: dict[str, dict[int, list[float]]] = {work: {count: [] for count in outs} for work in WORKS}
    for counted in [False] + [True] * runs:
        for name, work in WORKS.items():
            for count, out in outs.items():
                taken = work(out, count)
                if counted:
                    seconds[name][count].append(taken)
    return seconds


def table(seconds: dict[str, dict[int, list[float]]], count: int) -> str:
    rows: list[list[report.Cell]] = []
    for name, by_count in seconds.items():
        few, many = median(by_count[FEW]), median(by_count[count])
        rows.append([name, few * 1e3, many * 1e3, many / few, many / few / (count / FEW)])
    head = ["", f"ms at {FEW} rows", f"ms at {count}", "x", "x for each row"]
    return report.table(head, rows)


if __name__ == "__main__":
    main()
