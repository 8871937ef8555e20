"""XMP packets: checked, corrected for an enlargement, and told what was done to the photo.

A packet is edited as text, between places that a parser finds: reading it into a tree and writing it out
again would rename prefixes, drop comments and break names inside values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from fractions import Fraction
from xml.sax.saxutils import escape, quoteattr

from srbatch.containers.blocks import C2PA_LOST
from srbatch.formats import Format
from srbatch.metadata import regions
from srbatch.metadata.extended_xmp import HAS_EXTENSION
from srbatch.metadata.packets import RDF, Name, Properties, Property, in_utf8
from srbatch.metadata.provenance import SOURCE_TYPES, Provenance
from srbatch.placement import Placement, is_on_its_side, rational

_BASIC = "http://ns.adobe.com/xap/1.0/"
_MEDIA = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_REFERENCE = "http://ns.adobe.com/xap/1.0/sType/ResourceRef#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_CAMERA_RAW = "http://ns.adobe.com/camera-raw-settings/1.0/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_DC = "http://purl.org/dc/elements/1.1/"

_PREFIXES = {_MEDIA: "xmpMM", _IPTC: "Iptc4xmpExt"}
_SOURCE_TYPE: Name = (_IPTC, "DigitalSourceType")
_SOURCE_TYPES = SOURCE_TYPES.partition("://")[2]  # some photos have them with https
_SYNTHETIC = {
    "algorithmicallyEnhanced": 1,
    "compositeWithTrainedAlgorithmicMedia": 2,
    "compositeSynthetic": 2,
    "virtualRecording": 3,
    "dataDrivenMedia": 3,
    "algorithmicMedia": 3,
    "trainedAlgorithmicMedia": 3,
}
"""How much of a picture IPTC's source types leave to models and algorithms (NewsCodes, digitalsourcetype).

Those of captures and of what people did by hand, such as digitalCapture, leave them nothing."""
_INSTANCE: Name = (_MEDIA, "InstanceID")
_DOCUMENT: Name = (_MEDIA, "DocumentID")
_DERIVED_FROM: Name = (_MEDIA, "DerivedFrom")
_HISTORY: Name = (_MEDIA, "History")
_THUMBNAILS: Name = (_BASIC, "Thumbnails")
_FORMAT: Name = (_DC, "format")
_MANIFEST: Name = ("http://purl.org/dc/terms/", "provenance")
"""Where a C2PA manifest is; one in the file itself has a name that begins as follows."""
_WITHIN = "self#"
_REMOTE = re.compile(r"https?://\S*(?:manifest|c2pa)\S*", re.IGNORECASE)
_ORIENTATION: Name = (_TIFF, "Orientation")
_SOFTWARE: Name = (_TIFF, "Software")
_RESOLUTIONS: tuple[Name, Name] = ((_TIFF, "XResolution"), (_TIFF, "YResolution"))
_STORED: frozenset[Name] = frozenset([(_TIFF, "BitsPerSample"), (_TIFF, "Compression")])
"""How the photo's own file keeps its pixels; the output's has tags of its own for that."""
_COLOURS: frozenset[Name] = frozenset(
    [
        *((_TIFF, local) for local in ("PhotometricInterpretation", "SamplesPerPixel")),
        *((_PHOTOSHOP, local) for local in ("ColorMode", "ICCProfile")),
        (_EXIF, "ColorSpace"),
    ]
)
_HEIGHT, _WIDTH = 0, 1  # of a size
_SIZES: dict[Name, int] = {
    (_TIFF, "ImageWidth"): _WIDTH,
    (_TIFF, "ImageLength"): _HEIGHT,
    (_EXIF, "PixelXDimension"): _WIDTH,
    (_EXIF, "PixelYDimension"): _HEIGHT,
}

# Of motion photos and photos with a gain map (developer.android.com/media/platform), and Apple's.
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_DIRECTORY: Name = ("http://ns.google.com/photos/1.0/container/", "Directory")
_GAIN_MAPS = frozenset(["http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/"])
# Of panoramas (developers.google.com/streetview/spherical-metadata).
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_PANORAMA_LENGTHS: tuple[tuple[Name, ...], tuple[Name, ...]] = (
    (
        *((_PANORAMA, f"CroppedArea{local}Pixels") for local in ("Left", "ImageWidth")),
        (_PANORAMA, "FullPanoWidthPixels"),
        *((_PANORAMA, f"LargestValidInteriorRect{local}") for local in ("Left", "Width")),
    ),
    (
        *((_PANORAMA, f"CroppedArea{local}Pixels") for local in ("Top", "ImageHeight")),
        (_PANORAMA, "FullPanoHeightPixels"),
        *((_PANORAMA, f"LargestValidInteriorRect{local}") for local in ("Top", "Height")),
    ),
)
"""Along the width, and along the height."""
PANORAMA_LEFT = (
    "the lengths of the panorama in XMP hold for the photo as it was stored, and were left: turned, it is no "
    "part of a sphere"
)
CROP_LEFT = "the crop in Camera Raw's settings holds for the photo as it was stored, and was left"
ACDSEE_LEFT = "the regions of ACDSee in XMP hold for the photo as it was stored, and were left"
_FOCAL_PLANE: tuple[Name, Name] = ((_EXIF, "FocalPlaneXResolution"), (_EXIF, "FocalPlaneYResolution"))
_NUMBER = re.compile(r"\s*\d{1,10}(?:/0*[1-9]\d{0,9})?\s*")

_EMPTY_PACKET = (
    '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">\n'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_PACKET_END = b"<?xpacket end"


def usable(packet: bytes) -> Properties:
    """The properties of a packet that can be corrected, and the packet in UTF-8.

    Raises:
        UnusableXmp: it cannot; the message goes on from "the XMP packet".
    """
    return Properties(in_utf8(packet))


def tells_of_gain_map(properties: Properties) -> bool:
    """Whether a packet says that another picture in the file gives this one a higher dynamic range."""
    return any(found.name[0] in _GAIN_MAPS for found in properties.found)


def losses(packet: bytes, *, turned: bool) -> tuple[str, ...]:
    """Notes on what a packet says that is not carried, or that does not follow a photo that was turned.

    Raises:
        UnusableXmp: see :func:`usable`.
    """
    properties = Properties(packet)
    said = {found.name: found.value.strip() for found in properties.found}
    notes = [C2PA_LOST] if _remote_manifest(properties) else []
    if turned and any(name in said for names in _PANORAMA_LENGTHS for name in names):
        notes.append(PANORAMA_LEFT)
    if turned and said.get((_CAMERA_RAW, "HasCrop"), "").lower() == "true":
        notes.append(CROP_LEFT)
    if turned and ("http://ns.acdsee.com/regions/", "Regions") in said:
        notes.append(ACDSEE_LEFT)
    return tuple(notes)


def _remote_manifest(properties: Properties) -> str | None:
    """Where the C2PA manifest of the photo is kept, if not in its file; None for none."""
    said = (properties.value(_MANIFEST) or "").strip()
    return said if _REMOTE.fullmatch(said) else None


def source_type(packet: bytes) -> str | None:
    """What a packet says of how the picture came to be, mostly a URI of IPTC's; None if it does not.

    Raises:
        UnusableXmp: see :func:`usable`.
    """
    return Properties(packet).value(_SOURCE_TYPE)


def corrected(
    packet: bytes | None,
    placement: Placement,
    *,
    fmt: Format,
    turned: bool,
    provenance: Provenance | None,
    new_colours: bool = False,
    software_before: str | None = None,
) -> bytes | None:
    """The packet of an enlargement: its size, no thumbnail, and its provenance; None for no packet.

    Sizes and orientation that the packet does not have are not added.

    Args:
        packet: of the photo; None if it has none.
        placement: where regions of the photo lie in the output, how its lengths grow, and the output's size.
        fmt: format of the output.
        turned: whether the output stands upright whatever the packet says of orientation. Where nothing
            asked for a turn but XMP, viewers disagree on whether XMP may, and the output stays as it was to
            each of them.
        provenance: None declares nothing.
        new_colours: whether the output has other colours than the photo, and a profile that tells them.
        software_before: the program or firmware that the photo's EXIF names, where the output's names ours.

    Raises:
        UnusableXmp: see :func:`usable`.
    """
    if packet is None:
        if provenance is None:
            return None
        packet = _EMPTY_PACKET
    properties = Properties(regions.moved(in_utf8(packet), placement))
    values = {name: str(placement.output[side]) for name, side in _SIZES.items()}
    values[_FORMAT] = f"image/{fmt.value}"  # of the file as it is saved (ISO 16684-1, 8.3)
    values |= _enlarged(properties, placement)
    if turned:
        values[_ORIENTATION] = "1"
    if is_on_its_side(placement.turn):
        resolutions = [properties.value(name) for name in _RESOLUTIONS]
        values |= {n: said for n, said in zip(_RESOLUTIONS, reversed(resolutions), strict=True) if said}
    new: dict[Name, str] = {}
    if provenance is not None:
        stated = {_INSTANCE: provenance.instance}
        if not _says_more(properties.value(_SOURCE_TYPE), provenance.source_type):
            stated[_SOURCE_TYPE] = provenance.source_type
        values |= {**stated, _SOFTWARE: provenance.software}
        new = _history_and_origin(properties, software_before, provenance)
        new |= {name: _element(name, _plain(value)) for name, value in stated.items()}
    void = _STORED | _COLOURS if new_colours else _STORED
    return _edited(properties, values, new, void)


def _says_more(photo: str | None, ours: str) -> bool:
    """Whether a photo's source type tells of models as ours does, or more: one made by a model stays one."""
    ranks = [
        _SYNTHETIC.get(local, 0) if space.endswith(_SOURCE_TYPES[:-1]) else 0
        for space, _, local in (uri.strip().rpartition("/") for uri in (photo or "", ours))
    ]
    return ranks[0] >= max(ranks[1], 1) and (photo or "").strip() != ours


def _enlarged(properties: Properties, placement: Placement) -> dict[Name, str]:
    """What a packet has that counts pixels, for the output."""
    values: dict[Name, str] = {}
    across, down = (_number(properties.value(name)) for name in _FOCAL_PLANE)
    if across and down:
        for name, number in zip(_FOCAL_PLANE, placement.focal_plane(across, down), strict=True):
            values[name] = "{}/{}".format(*rational(number))
    if placement.turn == 1:  # a sphere lying on its side would be none
        for names, factor in zip(_PANORAMA_LENGTHS, placement.factors, strict=True):
            lengths = {name: _number(properties.value(name)) for name in names}
            values |= {name: str(round(n * factor)) for name, n in lengths.items() if n is not None}
    return values


def _number(text: str | None) -> Fraction | None:
    """A number as XMP has them, "3888" or "3888000/877"; None for anything else."""
    match = _NUMBER.fullmatch(text or "")
    return Fraction(match[0].strip()) if match else None


def _is_obsolete(found: Property) -> bool:
    """Whether a property tells of something that the output does not have: another picture, a video.

    Or a manifest, or an extension of the packet, whose properties are in it here.
    """
    name, (space, local) = found.name, found.name
    return (
        name in (_THUMBNAILS, _DIRECTORY, HAS_EXTENSION)
        or space in _GAIN_MAPS
        or (space == _CAMERA and local.startswith(("MotionPhoto", "MicroVideo")))
        or (name == _MANIFEST and _tells_of_manifest(found.value.strip()))
    )


def _tells_of_manifest(place: str) -> bool:
    return place.startswith(_WITHIN) or _REMOTE.fullmatch(place) is not None


def _edited(
    properties: Properties, values: Mapping[Name, str], new: dict[Name, str], void: Set[Name]
) -> bytes:
    """The packet with other ``values`` for properties that it has, and ``new`` ones for those it has not.

    Those that are ``void`` go. Of History, its list is continued.
    """
    packet, result, at = properties.packet, bytearray(), 0
    for found in properties.found:
        if found.name == _HISTORY and _HISTORY in new:
            if found.list_end < 0:  # it holds no list, and so says nothing
                result += packet[at : found.start]
                at = found.end
                continue
            result += packet[at : found.list_end] + new.pop(_HISTORY).encode()
            at = found.list_end
        elif found.name in values or found.name in void or _is_obsolete(found):
            result += packet[at : found.start]
            at = found.end
            if found.name in values:
                result += found.with_value(values[found.name])
                new.pop(found.name, None)
    result += packet[at : properties.rdf_end]
    if _HISTORY in new:
        new[_HISTORY] = _element(_HISTORY, f"<rdf:Seq>{new[_HISTORY]}</rdf:Seq>")
    if new:
        result += _description("".join(new.values()), properties.about).encode()
    return bytes(result + packet[properties.rdf_end :])


def without_padding(packet: bytes) -> bytes:
    """Blanks before the end of a packet leave room for programs that edit it in place."""
    end = packet.rfind(_PACKET_END)
    return packet[:end].rstrip() + b"\n" + packet[end:] if end >= 0 else packet.rstrip()


# ---- what was done -------------------------------------------------------------------------------
#
# The properties of xmpMM, and the fields of ResourceEvent and ResourceRef, are those of ISO 16684-1. No time
# is written: the same photo shall always give the same bytes, and the file has a date.


def _history_and_origin(
    properties: Properties, software_before: str | None, provenance: Provenance
) -> dict[Name, str]:
    """An event for the history, and a reference to the photo unless the packet has one to its own origin.

    That one stays true of the output, which keeps the photo's DocumentID; the event names the photo then.
    """
    earlier, photo = properties.value(_SOURCE_TYPE), properties.value(_INSTANCE)
    is_derived = properties.value(_DERIVED_FROM) is not None
    parameters = f"{provenance.parameters}; source sha256 {provenance.source_sha256}"
    if is_derived and photo:
        parameters += f", instance {photo}"
    if software_before:
        parameters += f"; software before: {software_before}"
    if manifest := _remote_manifest(properties):
        parameters += f"; C2PA manifest before: {manifest}"
    if earlier:
        parameters += f"; digital source type before: {earlier}"
    if _says_more(earlier, provenance.source_type):
        parameters += f"; of this step alone: {provenance.source_type}"
    event = {
        "action": provenance.action,
        "softwareAgent": provenance.software,
        "instanceID": provenance.instance,
        "parameters": parameters,
    }
    made = {_HISTORY: _structure("rdf:li", "stEvt", _EVENT, event)}
    if not is_derived:
        origin = {"instanceID": photo or f"sha256:{provenance.source_sha256}"}
        if document := properties.value(_DOCUMENT):
            origin["documentID"] = document
        made[_DERIVED_FROM] = _structure("xmpMM:DerivedFrom", "stRef", _REFERENCE, origin)
    return made


def _structure(tag: str, prefix: str, space: str, fields: Mapping[str, str]) -> str:
    """An element of fields. It declares its prefixes anew: those of the packet may mean something else."""
    declared = f'xmlns:rdf="{RDF}" xmlns:xmpMM="{_MEDIA}" xmlns:{prefix}="{space}"'
    body = "".join(f"<{prefix}:{key}>{_plain(text)}</{prefix}:{key}>" for key, text in fields.items())
    return f'<{tag} {declared} rdf:parseType="Resource">{body}</{tag}>\n'


def _element(name: Name, content: str) -> str:
    space, local = name
    tag = f"{_PREFIXES[space]}:{local}"
    return f'<{tag} xmlns:rdf="{RDF}" xmlns:{_PREFIXES[space]}="{space}">{content}</{tag}>\n'


def _plain(text: str) -> str:
    """Text for an element, in ASCII: a packet may be in any encoding that contains it."""
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _description(properties: str, about: str) -> str:
    return (
        f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={quoteattr(about)}>\n{properties}</rdf:Description>\n'
    )
