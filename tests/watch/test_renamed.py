"""Names of outputs whose photos' names were used before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath

from hypothesis import given
from hypothesis import strategies as st

from srbatch.discovery.found import Photo
from srbatch.formats import Format
from srbatch.names import collision_key
from srbatch.outputs.rows import Row
from srbatch.watch.renamed import placed
from tests.watch.conftest import photo

NAMES = st.sampled_from(["a.jpg", "a.JPG", "b.bmp", "a.5f2c9a31.jpg", "a.jpg.png"])
CONTENTS = st.integers(0, 5)


@given(st.lists(st.tuples(NAMES, CONTENTS, st.booleans())), st.sampled_from([None, Format.PNG]))
def test_every_photo_has_one_name_for_ever_and_shares_it_with_none(
    drops: list[tuple[str, int, bool]], to: Format | None
) -> None:
    """A model of drops into a folder that is emptied after each of them."""
    from srbatch.discovery.target_names import target_name

    ledger: dict[str, Row] = {}
    names: dict[tuple[str, int], str] = {}
    for name, content, collides in drops:
        # Hashes that begin alike make the longer names necessary.
        sha256 = f"{'5f2c9a31' if collides else f'{content:08x}'}{content:056x}"
        key = (name, int(sha256, 16))
        natural = target_name(name, to)
        new = replace(photo(name), relative=Path(natural), target=Path("hi", natural))
        if natural in ledger:
            new = placed(new, sha256, to=to, row_of=ledger.get, is_taken=lambda relative: False)
        assert new.problem is None
        relative = new.relative.as_posix()
        assert new.target == Path("hi", relative)
        assert names.setdefault(key, relative) == relative, "it is stable"
        if relative in ledger:
            assert ledger[relative].sha256 == sha256, "no output is replaced"
        ledger[relative] = Row(
            target=relative, status="done", source="", size=1, mtime_ns=1, sha256=sha256, recipe=""
        )


def test_a_name_that_is_taken_by_something_else_is_made_longer() -> None:
    row = Row(target="a.jpg", status="done", source="x", size=1, mtime_ns=1, sha256="0" * 64, recipe="")
    taken = {"a.12345678.jpg"}

    def found(is_taken: Callable[[PurePath], bool]) -> Photo:
        rows = {"a.jpg": row}
        return placed(photo("a.jpg"), "1234567890abcdef" * 4, to=None, row_of=rows.get, is_taken=is_taken)

    assert found(lambda path: path.name in taken).relative.name == "a.1234567890abcdef.jpg"
    assert "rename the photo" in str(found(lambda path: True).problem)


def test_names_that_one_file_system_takes_for_one_have_one_key() -> None:
    assert collision_key(PurePath("É/A.jpg")) == collision_key(PurePath("é/a.JPG"))
