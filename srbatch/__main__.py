"""``python -m srbatch`` is the ``srbatch`` command."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command; Ctrl-C while its modules are still being read ends it without a traceback."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from srbatch import cli

    signal.signal(signal.SIGINT, previous)
    cli.main()


if __name__ == "__main__":
    main()
