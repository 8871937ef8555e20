"""What is forgotten of photos that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from srbatch.ledger import Ledger, Row
from srbatch.preflight import forget_vanished


@pytest.mark.parametrize("looked_through", ["/", "photos", "other"])
def test_failures_of_photos_that_are_gone_are_forgotten_below_what_was_looked_through(
    tmp_path: Path, looked_through: str
) -> None:
    out = tmp_path / "hi"
    for folder in ("hi", "photos", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "photos/there.jpg").write_bytes(b"")
    ledger = Ledger.in_memory()
    for name in ("there.jpg", "gone.jpg"):
        ledger.record(
            Row(
                target=name,
                status="failed",
                source=f"../photos/{name}",
                size=1,
                mtime_ns=1,
                sha256=None,
                recipe="{}",
                error="UnreadablePhoto",
                reason="damaged",
            )
        )
    forget_vanished(ledger, out, [tmp_path / looked_through])
    left = [row.target for row in ledger.failures()]
    assert left == (["gone.jpg", "there.jpg"] if looked_through == "other" else ["there.jpg"])
