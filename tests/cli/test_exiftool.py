"""Whatever exiftool reads from a photo it reads from its enlargement too, in every pair of formats."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from srbatch.containers.exif import MAKER_NOTE_SWAPPED
from srbatch.formats import Format
from srbatch.reporting.outcome import Outcome
from tests.conftest import crop
from tests.networks import upscaled

pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

HEIC = ("heic",) if find_spec("pillow_heif") else ()
SUFFIXES = ("jpg", "png", "webp", "tif", "avif", *HEIC)
HOLD_IPTC = (".jpg", ".png", ".tif")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FILM = "http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm"
ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"

WRITTEN = """
    IFD0:Make=Canon                 IFD0:Model=Canon X            IFD0:Artist=Ä. Müller
    IFD0:Copyright=1953 A. Müller   IFD0:ImageDescription=Oma     IFD0:ModifyDate=2001:01:02 03:04:05
    IFD0:Software=Scan 1.0          IFD0:Orientation=6            IFD0:XPTitle=Großmutter
    IFD0:XResolution=300            IFD0:YResolution=300          IFD0:ResolutionUnit=2
    IFD0:Rating=4
    ExifIFD:DateTimeOriginal=1953:08:11 11:59:58                  ExifIFD:SubSecTimeOriginal=123
    ExifIFD:OffsetTimeOriginal=+02:00                             ExifIFD:CreateDate=2001:01:02 03:04:05
    ExifIFD:SubSecTime=77           ExifIFD:LensModel=Heliar 50   ExifIFD:LensInfo=50 50 2 2
    ExifIFD:FNumber=5.6             ExifIFD:ExposureTime=0.004    ExifIFD:ISO=100
    ExifIFD:FocalLength=50          ExifIFD:UserComment=Grüße     ExifIFD:ColorSpace=1
    ExifIFD:ExifImageWidth=64       ExifIFD:ExifImageHeight=48
    GPS:GPSLatitude=48.2082         GPS:GPSLatitudeRef=N          GPS:GPSLongitude=16.3738
    GPS:GPSLongitudeRef=E           GPS:GPSAltitude=171           GPS:GPSAltitudeRef=0
    GPS:GPSDateStamp=1953:08:11     GPS:GPSTimeStamp=10:00:00     GPS:GPSImgDirection=12.5
    XMP-dc:Title=Grandmother, 1953  XMP-dc:Subject=family         XMP-dc:Subject=Wien
    XMP-dc:Description=<b> & Oma    XMP-xmp:Rating=4              XMP-xmp:CreatorTool=Scan 1.0
    XMP-photoshop:Headline=Oma      XMP-iptcCore:Location=Ring    XMP-iptcExt:PersonInImage=Anna
    XMP-lr:HierarchicalSubject=a|b  XMP-crs:Exposure2012=+0.50    XMP-tiff:Orientation=6
    XMP-exif:ExifImageWidth=64      XMP-xmpMM:DocumentID=did:1    XMP-xmpMM:InstanceID=iid:1
    XMP-iptcExt:DigitalSourceType=http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm
"""
IPTC = """
    IPTC:City=Wien  IPTC:Keywords=family  IPTC:Keywords=Oma  IPTC:By-line=Müller  IPTC:CodedCharacterSet=UTF8
"""

_TEXTS = {6: b"Canon X with Heliar\0", 7: b"Firmware Version 1.00\0", 9: b"Anna Mueller of Wien\0"}
_VALUES_AT = 2 + 12 * len(_TEXTS) + 4


def maker_note(at: int) -> bytes:
    """A directory of three texts, as Canon's cameras write it, for offset ``at`` of an EXIF block."""
    head, values = struct.pack(">H", len(_TEXTS)), b""
    for tag, text in _TEXTS.items():
        head += struct.pack(">HHII", tag, 2, len(text), at + _VALUES_AT + len(values))
        values += text
    return head + bytes(4) + values


def canon_photo(path: Path) -> Path:
    """A photo with nothing but a maker note whose offsets are right."""
    tags, note = Image.Exif(), maker_note(0)
    tags[0x010F] = "Canon"
    tags.get_ifd(0x8769)[0x927C] = note
    block = tags.tobytes()
    assert block.startswith(b"Exif\0\0MM")
    crop().save(path, exif=block.replace(note, maker_note(block.index(note) - 6)))
    return path


CONTAINER = frozenset("ExifTool System File Composite QuickTime Meta RIFF JFIF PNG-pHYs PNG".split())
"""Groups that tell of the file, of its codec, or what exiftool makes of other tags."""
PIXELS = frozenset(
    [
        *("ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation"),
        *("StripOffsets", "SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "PlanarConfiguration"),
        *("YCbCrPositioning", "Predictor", "SampleFormat"),
    ]
)
"""Tags of IFD0 that say how pixels are stored."""
CHANGED = {
    *("IFD0:Orientation", "IFD0:Software", "ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight"),
    *("XMP-tiff:Orientation", "XMP-exif:ExifImageWidth"),
    *("XMP-iptcExt:DigitalSourceType", "XMP-xmpMM:InstanceID"),
}


def arguments(listing: str) -> list[str]:
    """``tag=value`` texts, two or more blanks apart, as exiftool wants them."""
    found = [part.strip() for line in listing.splitlines() for part in line.split("  ")]
    return [f"-{part}" for part in found if part]


def exiftool(*options: str | Path) -> str:
    done = subprocess.run(["exiftool", *map(str, options)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


Tags = set[tuple[str, str]]
"""Names with their groups, and values as JSON."""


def tags(folder: Path) -> dict[str, Tags]:
    """What exiftool reads from each file of a folder."""
    found = {}
    for record in json.loads(exiftool("-j", "-G1:4", "-a", "-n", "-b", "-struct", folder)):
        name = Path(record.pop("SourceFile")).name
        found[name] = {
            (re.sub(r":Copy\d+", "", tag), json.dumps(value, sort_keys=True)) for tag, value in record.items()
        }
    return found


def of_the_photo(found: Tags) -> Tags:
    """The tags that an enlargement must have too."""
    parted = ((tag.partition(":"), (tag, value)) for tag, value in found)
    return {
        pair
        for (group, _, tag), pair in parted
        if group not in CONTAINER and not (group == "IFD0" and tag in PIXELS)
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    if HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
    paths = [folder / f"photo.{suffix}" for suffix in SUFFIXES]
    for path in paths:
        crop().save(path, icc_profile=ICC)
    copied = ("-tagsFromFile", canon_photo(tmp_path_factory.mktemp("maker") / "a.jpg"), "-MakerNotes")
    exiftool("-overwrite_original", "-n", *copied, *arguments(WRITTEN), *paths)
    with_iptc = [path for path in paths if path.suffix in HOLD_IPTC]
    exiftool("-overwrite_original", "-m", *arguments(IPTC), *with_iptc)
    exiftool("-overwrite_original", "-Comment=Größe", folder / "photo.jpg", folder / "photo.png")
    return folder


@pytest.fixture
def without_iptc(sources: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "without"
    shutil.copytree(sources, folder)
    exiftool("-overwrite_original", "-m", "-IPTC:all=", *(folder / f"photo{s}" for s in HOLD_IPTC))
    return folder


def test_the_sources_say_what_the_tests_are_about(sources: Path) -> None:
    for name, found in tags(sources).items():
        said = dict(found)
        assert said["Canon:OwnerName"] == '"Anna Mueller of Wien"'
        assert said["IFD0:Orientation"] == "6"
        assert ("IPTC:City" in said) == name.endswith(HOLD_IPTC)
        assert len(of_the_photo(found)) > 75


@pytest.mark.parametrize("fmt", [None, Format.JPEG, Format.PNG, Format.TIFF])
def test_all_tags_arrive(sources: Path, tmp_path: Path, fmt: Format | None) -> None:
    compare(sources, tmp_path / "out", fmt)


@pytest.mark.parametrize(
    "fmt", [f for f in (Format.WEBP, Format.AVIF, Format.HEIC) if f.suffixes[0][1:] in SUFFIXES]
)
def test_all_tags_arrive_where_iptc_has_no_place(without_iptc: Path, tmp_path: Path, fmt: Format) -> None:
    compare(without_iptc, tmp_path / "out", fmt)


def canon_tiff(path: Path, folder: Path) -> Path:
    """The same in a TIFF file, whose start the offsets count from."""
    with Image.open(canon_photo(folder / "a.jpg")) as photo:
        note, tags = maker_note(0), photo.getexif()
        tags.get_ifd(0x8769)[0x927C] = note
        photo.save(path, exif=tags)
    data = path.read_bytes()
    path.write_bytes(data.replace(note, maker_note(data.index(note))))
    return path


@pytest.mark.parametrize(
    "fmt", [None, *(Format(s.replace("jpg", "jpeg").replace("tif", "tiff")) for s in SUFFIXES)]
)
def test_offsets_in_a_maker_note_that_count_from_the_start_stay_right(
    tmp_path: Path, fmt: Format | None
) -> None:
    """exiftool finds the way in notes that it copied itself, not in those that cameras wrote."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    (tmp_path / "aside").mkdir()
    folder.mkdir()
    canon_photo(folder / "a.jpg")
    canon_tiff(folder / "b.tif", tmp_path / "aside")
    texts = {text[:-1].decode() for text in _TEXTS.values()}
    outcomes = upscaled(folder, out, format=fmt)
    for path in [*folder.iterdir(), *(outcome.photo.target for outcome in outcomes.values())]:
        (found,) = json.loads(exiftool("-j", "-a", "-G1", path))
        assert texts <= {value for tag, value in found.items() if tag.startswith("Canon:")}, path
        assert "ExifTool:Warning" not in found
    # In TIFF it stands among numbers of the other order: exiftool finds that out, other programs do not.
    told = {note for outcome in outcomes.values() for note in outcome.notes}
    assert told == ({MAKER_NOTE_SWAPPED} if fmt is Format.TIFF else set())


def compare(sources: Path, out: Path, fmt: Format | None) -> None:
    outcomes, before = upscaled(sources, out, format=fmt), tags(sources)
    after = tags(out)
    assert len(outcomes) == len(SUFFIXES)
    for name, outcome in outcomes.items():
        assert outcome.status == "done", outcome.reason
        found = after[outcome.photo.target.name]
        lost = of_the_photo(before[name]) - found
        assert {tag for tag, _ in lost} == CHANGED, (name, fmt)
        check_corrected(dict(found), turned=not name.endswith((".avif", ".heic")))
        check_resolution(dict(found))
        check_comment(dict(before[name]), dict(found), outcome)


def check_corrected(found: dict[str, str], *, turned: bool) -> None:
    """AVIF and HEIC have their own means of turning a picture, and exiftool used EXIF's."""
    width, height = ("96", "128") if turned else ("128", "96")
    assert (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"]) == (width, height)
    assert found["XMP-exif:ExifImageWidth"] == width
    assert (found["IFD0:Orientation"], found["XMP-tiff:Orientation"]) == ("1", "1")
    assert found["IFD0:Software"].startswith('"srbatch ')
    assert found["XMP-iptcExt:DigitalSourceType"] == json.dumps(ENHANCED)
    assert json.loads(found["XMP-xmpMM:DerivedFrom"]) == {"DocumentID": "did:1", "InstanceID": "iid:1"}
    (event,) = json.loads(found["XMP-xmpMM:History"])
    assert (event["Action"], event["SoftwareAgent"]) == ("resized", json.loads(found["IFD0:Software"]))
    assert event["InstanceID"] == json.loads(found["XMP-xmpMM:InstanceID"])
    assert event["Parameters"].startswith("x2 from ")
    assert f"model photo (sha256 {'0' * 64}); source sha256 " in event["Parameters"]
    assert event["Parameters"].endswith(f"; digital source type before: {FILM}")


def check_resolution(found: dict[str, str]) -> None:
    """300 pixels per inch, wherever a file says so."""
    assert (found["IFD0:XResolution"], found["IFD0:YResolution"]) == ("300", "300")
    assert found.get("JFIF:XResolution", "300") == "300"
    assert found.get("PNG-pHYs:PixelsPerUnitX", "11811") == "11811"  # per metre


def check_comment(before: dict[str, str], after: dict[str, str], outcome: Outcome) -> None:
    def comment(found: dict[str, str]) -> str | None:
        return found.get("File:Comment") or found.get("PNG:Comment")

    if comment(after) != comment(before):
        assert any("text comment" in note for note in outcome.notes)
        assert outcome.photo.target.suffix not in (".jpg", ".png")
