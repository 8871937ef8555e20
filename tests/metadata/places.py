"""What a photo says of places in itself, and what is made of that for an enlargement."""

from __future__ import annotations

from srbatch.formats import Format
from srbatch.metadata import carrying, exif_patch, xmp
from srbatch.metadata.reading import Metadata
from srbatch.placement import Placement

HEIGHT, WIDTH = 48, 64
EXIF = "http://ns.adobe.com/exif/1.0/"
FACE = (0.25, 0.125, 0.125, 0.25)
"""x and y of the middle, width, height, in parts of the stored picture."""
SUBJECT = (16, 6, 8, 12)
"""The same in pixels."""
SPACES = (
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
    ' xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"'
    ' xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    ' xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"'
    ' xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)
AS_ATTRIBUTES = (
    "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:AppliedToDimensions stDim:w='64' stDim:unit='pixel'"
    " stDim:h='48'/><mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name='Oma'>"
    "<mwg-rs:Area stArea:x='0.25' stArea:y='0.125' stArea:w='0.125' stArea:h='0.25'"
    " stArea:unit='normalized'/></rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
    "<exif:SubjectArea><rdf:Seq><rdf:li>16</rdf:li><rdf:li>6</rdf:li><rdf:li>8</rdf:li><rdf:li>12</rdf:li>"
    "</rdf:Seq></exif:SubjectArea>"
    "<MP:RegionInfo rdf:parseType='Resource'><MPRI:Regions><rdf:Bag>"
    "<rdf:li MPReg:Rectangle='0.1875, 0, 0.125, 0.25' MPReg:PersonDisplayName='Oma'/>"
    "</rdf:Bag></MPRI:Regions></MP:RegionInfo>"
)
AS_ELEMENTS = (
    "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:AppliedToDimensions rdf:parseType='Resource'>"
    "<stDim:h>48</stDim:h><stDim:unit>pixel</stDim:unit><stDim:w>64</stDim:w></mwg-rs:AppliedToDimensions>"
    "<mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType='Resource'><mwg-rs:Area><rdf:Description>"
    "<stArea:x>0.25</stArea:x><stArea:y>0.125</stArea:y><stArea:w>0.125</stArea:w><stArea:h>0.25</stArea:h>"
    "<stArea:unit>normalized</stArea:unit></rdf:Description></mwg-rs:Area></rdf:li></rdf:Bag>"
    "</mwg-rs:RegionList></mwg-rs:Regions>"
)


def packet(properties: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {SPACES}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def patched(block: bytes, placement: Placement) -> bytes:
    return exif_patch.corrected(block, placement, software=None, new_colours=False, resolution=None)


def corrected(packet: bytes, placement: Placement) -> bytes | None:
    return xmp.corrected(packet, placement, fmt=Format.PNG, turned=False, provenance=None)


def for_output(meta: Metadata, fmt: Format, *, width: int, height: int) -> Metadata:
    return carrying.for_output(
        meta, fmt, width=width, height=height, provenance=None, new_colours=False, resolution=None
    )
