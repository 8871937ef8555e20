"""What is known before the first photo is done: sizes that cannot be, and what is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from srbatch.codecs.picture import Header
from srbatch.errors import PhotoTooLarge
from srbatch.formats import Format
from srbatch.options import MAX_FACTOR, Options, TargetSize
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from srbatch.preflight import forget_vanished, output_size
from tests.conftest import WRITTEN


@pytest.mark.parametrize("looked_through", ["/", "photos", "other", "photo"])
def test_failures_of_photos_that_are_gone_are_forgotten_below_what_was_looked_through(
    tmp_path: Path, looked_through: str
) -> None:
    out = tmp_path / "hi"
    for folder in ("hi", "photos", "other", "photo"):
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
    assert left == (["gone.jpg", "there.jpg"] if looked_through in ("other", "photo") else ["there.jpg"])


@pytest.mark.parametrize("fmt", WRITTEN)
@pytest.mark.parametrize("tall", [False, True])
def test_an_output_may_be_as_large_as_its_format_holds_and_no_larger(fmt: Format, tall: bool) -> None:
    most = fmt.max_side_px

    def sized(long_edge: int) -> tuple[int, int] | None:
        sides = (most // 2, 10) if tall else (10, most // 2)
        options = Options(inputs=(Path(),), out=Path(), size=TargetSize(long_edge=long_edge))
        return output_size(Header(Format.TIFF, *sides, 3, 8), fmt, options)

    size = sized(most)
    assert size is not None
    assert size[0 if tall else 1] == most
    with pytest.raises(PhotoTooLarge, match=f"holds {most} a side"):
        sized(most + 1)


@pytest.mark.parametrize("sides", [(1, 1000), (1000, 1)])
def test_the_side_that_grows_most_decides_whether_a_model_can_make_it(sides: tuple[int, int]) -> None:
    """Of one pixel rounding makes two, which is more than one and a half times as many."""
    options = Options(inputs=(Path(),), out=Path(), size=TargetSize(scale=1.5))
    header = Header(Format.TIFF, *sides, 3, 8)
    assert output_size(header, Format.TIFF, options, MAX_FACTOR) in ((2, 1500), (1500, 2))
    with pytest.raises(PhotoTooLarge, match=r"grow 2 times; the most is 1"):
        output_size(header, Format.TIFF, options, 1)
