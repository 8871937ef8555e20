"""The rows of the ledger: what is kept of each photo, and how SQLite and JSON hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import get_type_hints

TABLE = """(
    target BLOB PRIMARY KEY,      -- below the output folder, with '/'
    status TEXT NOT NULL,         -- done | skipped | failed
    source BLOB NOT NULL,         -- as seen from the output folder
    size INTEGER NOT NULL,        -- of the source, bytes
    mtime_ns INTEGER NOT NULL,    -- of the source
    sha256 TEXT,                  -- of the source
    recipe TEXT NOT NULL,         -- JSON: what the user asked that changes pixels
    target_size INTEGER,          -- bytes
    target_sha256 TEXT,
    error TEXT,                   -- class of the failure
    reason TEXT,                  -- of the failure or the skip, for people
    details TEXT NOT NULL,        -- JSON: device, engine, precision, tile, seconds, sizes in pixels, notes
    finished REAL NOT NULL        -- seconds since 1970
) WITHOUT ROWID;
"""
"""The columns of a table of such rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The last outcome of one target; the fields are the columns of :data:`TABLE`."""

    target: str
    """Path below the output folder with ``/``; undecodable bytes as surrogates, as Python has them."""
    status: str
    source: str
    size: int
    mtime_ns: int
    sha256: str | None
    recipe: str
    target_size: int | None = None
    target_sha256: str | None = None
    error: str | None = None
    reason: str | None = None
    details: str = "{}"
    finished: float = 0.0


COLUMNS = tuple(Row.__dataclass_fields__)
PATHS = ("target", "source")
"""Columns whose values are stored as the bytes of the file system."""
_KINDS = {**get_type_hints(Row), "finished": int | float}


def misfits(named: Mapping[str, object]) -> list[object]:
    """The values of a row that are not of their kinds."""
    return [value for key, value in named.items() if not isinstance(value, _KINDS[key])]


def to_json(row: Row) -> str:
    """The row as text for the ledger's notes of writes that are pending."""
    return json.dumps(asdict(row))  # ASCII: surrogates of undecodable names survive as escapes
