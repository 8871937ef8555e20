"""Measure how many photos a second the ledger takes from several threads, beside as many of one thread alone.

    python -m tests.bench.ledger_threads [--threads 1 4 8 16]

Each photo takes three notes, each on the disk before the next, as in a run; threads have a photo each in
hand. By turns they are free to wait for the disk together, and made to wait one after another. What the disk
of the folder takes for a sync decides; name the one that outputs are to be on with ``--folder``.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median

from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from tests.bench import report
from tests.bench.ledger_size import EXAMPLE, name_of

TOGETHER, ONE_BY_ONE = "together", "one after another"
WAYS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    TOGETHER: nullcontext,
    ONE_BY_ONE: threading.Lock,
}
"""What is held for each note."""


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument(
        "--threads", type=int, nargs="+", default=[1, 4, 8, 16], metavar="N", help="[default: 1 4 8 16]"
    )
    flags.add_argument("--photos", type=int, default=100, help="of each measurement  [default: 100]")
    flags.add_argument("--runs", type=int, default=5, help="of each row of the table  [default: 5]")
    report.add_folder(flags)
    arguments = flags.parse_args()
    rates: dict[int, dict[str, list[float]]] = {n: {way: [] for way in WAYS} for n in arguments.threads}
    with tempfile.TemporaryDirectory(prefix="srbatch-ledger-", dir=arguments.folder) as made:
        for run in range(arguments.runs):
            for count in arguments.threads:
                for way in WAYS:
                    state = Path(made) / f"{run}-{count}-{way}"
                    state.mkdir()
                    rates[count][way].append(rate(state, count, arguments.photos, WAYS[way]()))
    rows: list[list[report.Cell]] = []
    for count, by_way in rates.items():
        together, one_by_one = (median(by_way[way]) for way in (TOGETHER, ONE_BY_ONE))
        rows.append([str(count), together, one_by_one, together / one_by_one])
    print(report.table(["threads", f"photos/s {TOGETHER}", f"photos/s {ONE_BY_ONE}", "ratio"], rows))
    report.write(arguments.json, {"photos_per_second": rates})


def rate(state: Path, threads: int, photos: int, alone: AbstractContextManager[object]) -> float:
    """Photos a second that a new ledger takes; ``alone`` is held for each note."""
    rows = iter([replace(EXAMPLE, target=name_of(index)) for index in range(photos)])
    taking = threading.Lock()

    def work() -> None:
        while (row := take()) is not None:
            with alone:
                ledger.begin(row.target, f"{row.target}.part")
            with alone:
                ledger.about_to_commit(row)
            with alone:
                ledger.record(row)

    def take() -> Row | None:
        with taking:
            return next(rows, None)

    with closing(Ledger.open(state)) as ledger:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        taken = time.perf_counter() - start
        assert sum(1 for _ in ledger.rows()) == photos
    return photos / taken


if __name__ == "__main__":
    main()
