"""What an XMP packet may cost."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from srbatch.metadata import regions
from srbatch.metadata.packets import Properties, UnusableXmp
from srbatch.placement import Placement
from tests.conftest import Originals, crop
from tests.networks import upscaled

HEAD = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    ' xmlns:n="http://example.org/n"{}>{}</rdf:RDF></x:xmpmeta>'
)


def declared(count: int) -> str:
    return "".join(f' xmlns:p{i}="u:{i}"' for i in range(count))


def packet(body: str, attributes: str = "") -> bytes:
    return HEAD.format(attributes, body).encode()


TOO_MUCH = {
    "deeper": packet(f"<rdf:Description>{'<n:a>' * 150}{'</n:a>' * 150}</rdf:Description>"),
    "elements": packet(f"<rdf:Description>{'<n:a/>' * 600_001}</rdf:Description>"),
    "namespaces": packet("<rdf:Description/>", declared(5_001)),
    "properties": packet(f"<rdf:Description>{'<n:a/>' * 100_001}</rdf:Description>"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_packet_beyond_all_that_are_written_is_refused(what: str) -> None:
    with pytest.raises(UnusableXmp, match=what):
        Properties(TOO_MUCH[what])


@pytest.mark.parametrize("what", set(TOO_MUCH) - {"properties"})
def test_so_are_its_regions(what: str) -> None:
    with pytest.raises(UnusableXmp, match=what):
        regions.moved(TOO_MUCH[what], Placement(1, (4, 6), (8, 12)))


def test_many_namespaces_around_many_properties_are_not_copied_for_each() -> None:
    each = "".join(f'<rdf:Description xmlns:q="u:q{i}" q:c=""/>' for i in range(2_000))
    made = packet(each, declared(2_500))
    tracemalloc.start()
    try:
        found = Properties(made).found
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {found[0].scope["q"], found[-1].scope["q"], found[0].scope["p7"]} == {"u:q0", "u:q1999", "u:7"}
    assert peak < 50 * len(made)  # a copy for each would be some 1,500 times its bytes


def test_a_value_of_very_many_pieces_is_one_text() -> None:
    text = "a &amp; b\n" * 20_000
    (found,) = Properties(packet(f"<rdf:Description><n:a>{text}</n:a></rdf:Description>")).found
    assert found.value == ("a & b\n" * 20_000).strip()


def test_a_photo_and_a_sidecar_with_such_packets_are_done_and_a_note_tells(
    originals: Originals, tmp_path: Path
) -> None:
    crop().save(originals.folder / "a.webp", xmp=TOO_MUCH["deeper"])
    crop().save(originals.folder / "b.png")
    (originals.folder / "b.png.xmp").write_bytes(TOO_MUCH["namespaces"])
    originals.remember()
    found = upscaled(originals.folder, tmp_path / "hi")
    assert {name: outcome.status for name, outcome in found.items()} == {"a.webp": "done", "b.png": "done"}
    assert found["a.webp"].notes == ("the XMP packet is nested deeper than any packet and was not carried",)
    assert found["b.png"].notes == (
        "the sidecar b.png.xmp declares more namespaces than any packet and was not carried",
    )
