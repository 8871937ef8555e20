"""The watcher that ``soak.py`` starts and kills: ``srbatch watch --scale 2``, its network adding nothing.

    python -m tests.bench.watched_run DROP OUT [DONE FAILED]

Pauses between two tries of a failed photo are seconds instead of minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from srbatch.options import Options, TargetSize
from srbatch.watch import agenda, daemon, log
from srbatch.watch.control import Control
from tests.bench.stand_in import StandIn


def main() -> None:
    drop, out, *shelves = map(Path, sys.argv[1:])
    agenda.PAUSES_S = (3.0, 6.0, 12.0)
    options = Options(inputs=(drop,), out=out, size=TargetSize(scale=2.0))
    done, failed = shelves or (None, None)
    how = daemon.WatchOptions(settle_s=1.0, done=done, failed=failed, stop_within_s=5.0)
    log.configure("info", as_json=False)
    with Control(stop_within_s=how.stop_within_s) as control, control.signals():
        code = daemon.watch(options, how, control=control, model_of=StandIn)
    sys.exit(code)


if __name__ == "__main__":
    main()
