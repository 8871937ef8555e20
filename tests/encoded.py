"""What a photo says, that of its output, and packets as an independent parser sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyvips

from srbatch.formats import Format
from srbatch.metadata import carrying, writing
from srbatch.metadata.provenance import Provenance
from srbatch.metadata.reading import Metadata
from tests.files import (
    ICC,
    IPTC,
    block,
    picture,
)

ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- by hand -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:own="http://example.org/1/"
    tiff:Orientation="6" tiff:Make='a "tiff:Orientation=1" camera > 0' e:PixelXDimension = '64'>
   <e:PixelYDimension>48</e:PixelYDimension>
   <own:Orientation>6</own:Orientation><own:Empty/>
   <own:Nested rdf:parseType="Resource"><tiff:Orientation>6</tiff:Orientation></own:Nested>
   <xap:Thumbnails xmlns:xap="http://ns.adobe.com/xap/1.0/"><rdf:Alt><rdf:li>/9j/OLD</rdf:li></rdf:Alt>
   </xap:Thumbnails>
  </rdf:Description>
  <rdf:Description rdf:about="uuid:1" xmlns:s="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <s:DigitalSourceType rdf:resource="http://example.org/a&gt;b"/>
   <s:Event>Fête</s:Event>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
            \n<?xpacket end="w"?>""".encode()


MANAGED = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:mm="http://ns.adobe.com/xap/1.0/mm/" mm:DocumentID="did:1" mm:InstanceID="iid:1"'
    ' xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" i:DigitalSourceType="http://x.org/a&amp;b">%s'
    "</rdf:Description></rdf:RDF>"
)
FULL = Metadata(icc=ICC, exif=block(">"), xmp=PACKET, iptc=IPTC, orientation=6)


WIDTH, HEIGHT = 256, 192


PROVENANCE = Provenance("srbatch 1.0", ENHANCED, "resized", "x2, model photo", "5" * 64)


def wanted(meta: Metadata, fmt: Format, provenance: Provenance | None = PROVENANCE) -> Metadata:
    meta = replace(meta, size=meta.size or (HEIGHT, WIDTH))
    asked: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "new_colours": False, "resolution": None}
    return carrying.for_output(meta, fmt, provenance=provenance, **asked)


def written(path: Path, fmt: Format, meta: Metadata, **options: Any) -> Path:
    """An output as the encoder makes it."""
    image = picture(icc=meta.icc)
    if fmt is Format.TIFF:
        image.tiffsave(str(path), keep="icc", **options)
        writing.finish_tiff(path, meta, resolution_known=True)
        return path
    with path.open("xb") as file:
        sink = writing.open_sink(file, fmt, meta, resolution=(11.811, 11.811))
        target = pyvips.TargetCustom()
        target.on_write(sink.write)
        image.write_to_target(target, fmt.suffixes[0], keep="icc", **options)
        sink.finish()
    return path


def parsed(packet: bytes | None) -> list[tuple[str, str]]:
    """Top-level properties of a packet as an independent parser sees them, sorted."""
    assert packet is not None
    found = []
    for description in ElementTree.fromstring(packet).iter():
        if description.tag.endswith("}Description"):
            found += [(name, value) for name, value in description.attrib.items() if "about" not in name]
            found += [(child.tag, "".join(child.itertext()).strip()) for child in description]
    return sorted((name.rpartition("}")[2], value) for name, value in found)


def history(packet: bytes | None) -> list[dict[str, str]]:
    """The events of a packet's history, their fields by name."""
    assert packet is not None
    tree = ElementTree.fromstring(packet)
    return [
        {field.tag.rpartition("}")[2]: field.text or "" for field in event}
        for events in tree.iter("{http://ns.adobe.com/xap/1.0/mm/}History")
        for event in events[0]
    ]


def but_history(packet: bytes | None) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parsed(packet) if name != "History"]
