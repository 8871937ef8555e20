"""`srbatch status OUT --watch`: what the watcher is at, in the terminal, as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from srbatch.outputs.archive import state_folder
from srbatch.reporting import inspection
from srbatch.reporting.snapshot import Snapshot, local_time, read
from srbatch.reporting.terminal import screen

_EVERY_S = 1.0
_LEDGER_EVERY_S = 10.0
"""Counting a large archive takes a moment."""
_TICK_S = 0.2


def show(
    out: Path,
    state: Path | None,
    *,
    check: Callable[[], None],
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show it until ``check`` raises.

    Raises:
        LedgerError: there is no ledger in ``out``, or it is damaged.
    """
    folder, counted, drawn = state_folder(out, state), clock(), clock()
    status = inspection.status(out, state)
    with Live(view(status, read(folder)), console=console or screen(), auto_refresh=False) as live:
        while True:
            sleep(_TICK_S)
            check()
            if clock() - counted >= _LEDGER_EVERY_S:
                status, counted = inspection.status(out, state), clock()
            if clock() - drawn >= _EVERY_S:
                live.update(view(status, read(folder)), refresh=True)
                drawn = clock()


def view(status: inspection.Status, watcher: Snapshot | None) -> RenderableType:
    """One picture of it."""
    counts = status.counts
    in_all = f"{counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed in all"
    if watcher is None:
        return Group(Text("no srbatch watch ever wrote to this folder"), Text(in_all))
    style = {True: "bold green", None: "yellow", False: "bold red"}[watcher.alive]
    parts: list[RenderableType] = [Text(watcher.headline, style=style), Text(f"{watcher.numbers}; {in_all}")]
    if watcher.in_hand and watcher.alive is not False:
        parts.append(Text("in hand: " + ", ".join(watcher.in_hand), overflow="ellipsis", no_wrap=True))
    if watcher.errors:
        parts.append(_errors(watcher))
    return Group(*parts)


def _errors(watcher: Snapshot) -> Table:
    table = Table(title="the latest failures", title_justify="left", box=None, pad_edge=False)
    for name in ("time", "photo", "reason"):
        table.add_column(name, overflow="fold")
    for when, source, reason in reversed(watcher.errors):
        table.add_row(Text(local_time(when)), Text(source), Text(reason))
    return table
