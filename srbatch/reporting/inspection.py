"""Looking at what was done: the ledger, the outputs against it, and the models there are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from srbatch.card import Card, Json, listed
from srbatch.errors import one_line
from srbatch.names import as_text, show, stays_below
from srbatch.options import MAX_FACTOR
from srbatch.outputs.archive import state_folder
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.sidecars import has_sidecar, sidecar_path, written_before
from srbatch.places import open_file
from srbatch.recipe import in_words
from srbatch.reporting.snapshot import Snapshot, local_time, read


class Failure(NamedTuple):
    """A photo that failed; names are those of ``names.as_text``."""

    source: str
    """As seen from where the output folder was named from."""
    target: str
    """Of its output, below the output folder."""
    reason: str
    error: str | None
    """The class of the failure."""


@dataclass(slots=True)
class Status:
    """What a ledger knows."""

    counts: Counter[str] = field(default_factory=Counter)
    recipes: Counter[str] = field(default_factory=Counter)
    """Done photos by the settings that they were made with."""
    failures: list[Failure] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    bytes_out: int = 0
    writing: list[str] = field(default_factory=list)
    """Targets that a run is writing, or was when it was killed."""
    last_run: tuple[str, int, float] | None = None
    watcher: Snapshot | None = None
    """What `srbatch watch` says of itself, if one ever wrote there."""

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "done": self.counts["done"],
            "skipped": self.counts["skipped"],
            "failed": self.counts["failed"],
            "bytes_out": self.bytes_out,
            "failures": [failure._asdict() for failure in self.failures],
            "skipped_because": dict(self.skipped),
            "settings": [{**json.loads(recipe), "photos": n} for recipe, n in self.recipes.most_common()],
            "writing": self.writing,
            "last_run": dict(zip(("host", "pid", "started"), self.last_run, strict=True))
            if self.last_run
            else None,
            "watcher": self.watcher.as_record() if self.watcher else None,
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{self.counts['done']} done ({self.bytes_out / 1e6:.1f} MB), {self.counts['skipped']} skipped,"
            f" {self.counts['failed']} failed"
        ]
        if self.last_run:
            host, pid, started = self.last_run
            lines.append(f"last run: {local_time(started)} by process {pid} on {host}")
        if self.watcher:
            lines += [self.watcher.headline, *([] if self.watcher.alive is False else [self.watcher.numbers])]
        lines += [
            f"  {count:6} made with {one_line(in_words(json.loads(text)))}"
            for text, count in self.recipes.most_common()
        ]
        lines += [f"  {count:6} skipped: {one_line(reason)}" for reason, count in self.skipped.most_common()]
        lines += [f"  being written: {one_line(target)}" for target in self.writing]
        lines += [
            f"  failed {one_line(failure.source)}: {one_line(failure.reason)}" for failure in self.failures
        ]
        return lines


@dataclass(slots=True)
class Verification:
    """The outputs and their sidecars, read again."""

    outputs: int = 0
    sound: int = 0
    """Outputs that are as they were written."""
    sidecars: int = 0
    sound_sidecars: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(output or sidecar, what is wrong)"""

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        problems = [{"target": target, "problem": problem} for target, problem in self.problems]
        return {
            "outputs": self.outputs,
            "sound": self.sound,
            "sidecars": self.sidecars,
            "sound_sidecars": self.sound_sidecars,
            "problems": problems,
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{one_line(target)}: {problem}" for target, problem in self.problems]
        sidecars = f", {self.sound_sidecars} of {self.sidecars} sidecars" if self.sidecars else ""
        if self.problems:
            lines.append("to have one of these made again, delete it and run the command that made it")
        return [*lines, f"as they were written: {self.sound} of {self.outputs} outputs{sidecars}"]


def status(out: Path, state: Path | None) -> Status:
    """Read the ledger of an output folder; a run may be writing to it meanwhile.

    Raises:
        LedgerError: there is none, or it is damaged.
    """
    found = Status()
    with closing(Ledger.open_readonly(state_folder(out, state))) as ledger:
        for recipe, photos, size in ledger.done():
            made = ledger.read_json(recipe)
            try:
                in_words(made)
            except (KeyError, TypeError, ValueError) as error:
                raise ledger.damaged(recipe) from error
            found.recipes[recipe] = photos
            found.bytes_out += size
        found.skipped.update(dict(ledger.skipped()))
        found.failures = [
            Failure(as_text(_seen(row.source, out)), as_text(row.target), row.reason or "", row.error)
            for row in ledger.failures()
        ]
        found.writing = [as_text(target) for target, _, _ in ledger.pending()]
        found.last_run = ledger.last_run()
    counts = Counter(done=found.recipes.total(), skipped=found.skipped.total(), failed=len(found.failures))
    found.counts = +counts  # without those that are 0
    found.watcher = read(state_folder(out, state))
    return found


def _seen(source: str, out: Path) -> str:
    """A source of the ledger, which is as seen from the output folder, from where that was named from."""
    # By the names, as the ledger's own path was made, and not through links in them.
    return os.path.normpath(out / source)


def verify(out: Path, state: Path | None, *, check: Callable[[], None] = lambda: None) -> Verification:
    """Read what the ledger calls done, with its sidecars, and compare it with the hashes of what was written.

    Raises:
        LedgerError: there is no ledger, or it is damaged.
    """
    found = Verification()
    with closing(Ledger.open_readonly(state_folder(out, state))) as ledger:
        for row in ledger.rows():
            if row.status != "done":
                continue
            check()
            found.outputs += 1
            if not stays_below(row.target):
                found.problems.append(
                    (as_text(row.target), "leads out of the output folder; nothing was read")
                )
                continue
            if problem := _problem(out / row.target, row.target_sha256, row.target_size):
                found.problems.append((as_text(row.target), problem))
            else:
                found.sound += 1
            if has_sidecar(row.details):
                found.sidecars += 1
                sidecar = sidecar_path(out / row.target)
                if problem := _problem(sidecar, written_before(ledger.details(row))):
                    found.problems.append((as_text(f"{row.target}.xmp"), f"{problem} (a sidecar)"))
                else:
                    found.sound_sidecars += 1
    return found


def _problem(path: Path, written: str | None, size: int | None = None) -> str | None:
    """What is wrong with a file that must have the hash ``written``, and this size if known."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end, and what a link leads to is not ours
            return "is a link, or no file at all"
        if size is not None and status.st_size != size:
            return f"{status.st_size} bytes where {size} were written"
        with open_file(path, follow_links=False) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != written:
                return "its content is not what was written"
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def card_text(path: Path, card: Card, *, full: bool) -> str:
    """A model card for people; with ``full`` also what was measured and how it was trained."""
    lines = [
        f"{card}: {card.description}",
        f"  scales    {listed(card.scales)}{_between(card)}",
        f"  learnt    {', '.join(card.degradations) or 'nothing on record'}",
        f"  faithful  {'no: it may make up or remove things' if card.generative else 'yes'}",
        f"  licence   {card.licence}",
        f"  tiles     halo {card.halo_px} px, ramp {card.ramp_px} px",
        f"  file      {show(path)}",
    ]
    if full:
        lines += [*_record(card.metrics), "  training", *_record(card.training, indent="    ")]
    return "\n".join(lines)


def _between(card: Card) -> str:
    return f" (and any factor up to {min(card.reach, MAX_FACTOR)})" if card.reach > 1 else ""


_LONG = 140
"""Characters of a record that are read at a glance; a longer one gets a line for each of its entries."""


def _record(record: Mapping[str, Json], indent: str = "  ") -> Iterator[str]:
    """Lines of a record that may be nested, without whole configurations: ``--json`` has those."""
    for key, value in record.items():
        if key == "config":
            continue
        for entry in value if isinstance(value, list) and _has_records(value) else [value]:
            line = f"{indent}{key:9} {_flat(entry)}"
            if isinstance(entry, dict) and len(line) > _LONG:
                yield f"{indent}{key}"
                yield from _record(entry, indent + "  ")
            else:
                yield line


def _has_records(values: list[Json]) -> bool:
    return any(isinstance(value, dict) for value in values)


def _flat(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    if not isinstance(value, dict):
        return str(value)
    entries = {key: entry for key, entry in value.items() if key != "config"}
    return ", ".join(
        f"{key} ({_flat(entry)})" if isinstance(entry, dict | list) else f"{key} {_flat(entry)}"
        for key, entry in entries.items()
    )
