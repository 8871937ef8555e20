"""The watcher of ``soak.py`` and ``latency.py``: ``srbatch watch --scale 2``, its network adding nothing.

    python -m tests.bench.watched_run [--settle S] [--poll S] DROP OUT [DONE FAILED]

Pauses between two tries of a failed photo are seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from srbatch.options import Options, TargetSize
from srbatch.watch import daemon, log, schedule
from srbatch.watch.control import Control
from tests.bench.stand_in import StandIn


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--settle", type=float, default=1.0)
    flags.add_argument("--poll", type=float)
    flags.add_argument("folders", nargs="+", type=Path)
    arguments = flags.parse_args()
    drop, out, *originals = arguments.folders
    schedule.PAUSES_S = (3.0, 6.0, 12.0)
    options = Options(inputs=(drop,), out=out, size=TargetSize(scale=2.0))
    done, failed = originals or (None, None)
    how = daemon.WatchOptions(
        settle_s=arguments.settle, poll_s=arguments.poll, done=done, failed=failed, stop_within_s=5.0
    )
    log.configure("info", as_json=False)
    with Control(stop_within_s=how.stop_within_s) as control, control.signals():
        code = daemon.watch(options, how, control=control, model_of=StandIn)
    sys.exit(code)


if __name__ == "__main__":
    main()
