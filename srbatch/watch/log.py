"""The log of the watcher on standard error: a line for each thing that happened, for people or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

from srbatch.errors import is_of_output
from srbatch.reporting.outcome import Outcome, outcome_line
from srbatch.reporting.report import Silent
from srbatch.reporting.snapshot import TIME_FORMAT

log = logging.getLogger(__name__)


def configure(level: str, *, as_json: bool) -> None:
    """Send our own records of that level and above, and warnings of libraries, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _plain())
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("srbatch").setLevel(level.upper())
    # It calls its own orderly end an error; what it cannot tell us, the next look finds.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)


def _plain() -> logging.Formatter:
    if "JOURNAL_STREAM" in os.environ:  # the journal has the time already; see systemd.exec(5)
        return logging.Formatter("%(levelname)s %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s", TIME_FORMAT)


class _Json(logging.Formatter):
    """One object in each line; that of a photo has all that ``srbatch upscale --json`` says of it."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{when}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "photo", {}))


class Log(Silent):
    """A record for each photo that was done or failed; skipped ones are for debugging.

    So are those whose outputs have no place: of them the watcher speaks itself, once.
    """

    def finished(self, outcome: Outcome) -> None:
        level = {"done": logging.INFO, "failed": logging.WARNING}.get(outcome.status, logging.DEBUG)
        if is_of_output(outcome.error):
            level = logging.DEBUG
        log.log(level, "%s", outcome_line(outcome), extra={"photo": outcome.as_record()})
