"""What srbatch sees of a photo, and what would become of it in each format."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.decisions import encoding_of, notes_on
from srbatch.codecs.picture import Picture
from srbatch.discovery.apart import check_outside
from srbatch.discovery.discover import Selection, discover
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoError, UnsupportedPhoto, UsageError
from srbatch.formats import Format
from srbatch.metadata.provenance import SOFTWARE, SOURCE_TYPES, Provenance
from srbatch.metadata.reading import Metadata
from srbatch.names import show
from srbatch.options import Options
from srbatch.outputs.scratch import Scratch, temporary_folder
from srbatch.outputs.sidecars import beside
from srbatch.preflight import output_size
from srbatch.reporting.description import Description, Fate, Unreadable, facts_of

_DECLARED = Provenance(
    software=SOFTWARE,
    source_type=SOURCE_TYPES + "algorithmicallyEnhanced",
    action="resized",
    parameters="as the run will say",
    source_sha256="0" * 64,
)
"""A declaration like that of a run: whether a format has room for it is part of what it can hold."""


def inspect(options: Options, *, check: Callable[[], None]) -> Iterator[Description | Unreadable]:
    """Decode each photo as a run would, and describe it.

    Args:
        options: what a run would be asked; its output folder is not looked at.
        check: called between folders and photos; raises to stop.

    Raises:
        UsageError: an input does not exist, none is a photo, or scratch space would lie in one.
        DestinationError: there can be no scratch space.
    """
    selection = Selection(options.recursive, options.include, options.exclude)
    space = options.scratch or Path(tempfile.gettempdir())
    check_outside(options.inputs, {"--scratch": space})
    with temporary_folder(space) as folder:
        photos = discover(options.inputs, folder, selection=selection, check=check).photos
        if not photos:
            raise UsageError("no photo was found; name one, or a folder that holds some")
        scratch = Scratch(folder / "scratch")
        with CodecPool.of(options, check, workers=1) as codecs:
            for photo in photos:
                check()
                try:
                    yield _looked_at(photo, codecs, scratch, options)
                except PhotoError as error:
                    yield Unreadable(photo.source, error)


def _looked_at(photo: Photo, codecs: CodecPool, scratch: Scratch, options: Options) -> Description:
    if isinstance(photo.problem, UnsupportedPhoto):
        raise photo.problem
    with scratch.for_photo() as files:
        picture = codecs.decode(photo.source, files.path(), options.max_pixels)
    found = codecs.metadata(photo.source)
    return described(photo.source, picture, found, photo.format or picture.header.format, options)


def described(
    source: Path, picture: Picture, found: Metadata, keeps: Format, options: Options
) -> Description:
    """Describe a photo that was decoded; its pixels are no longer needed.

    Args:
        source: the photo.
        picture: as it was decoded.
        found: its metadata as they stand in the file.
        keeps: what its output is without ``--format``.
        options: what a run would be asked.
    """
    formats = (options.format,) if options.format else tuple(fmt for fmt in Format if fmt.written)
    return Description(
        source=source,
        picture=picture,
        found=found,
        exif=facts_of(found.exif) if found.exif is not None else None,
        sidecars=tuple(show(path.name) for path in beside(source)),
        fates=tuple(_fate(source, picture, fmt, options) for fmt in formats),
        keeps=keeps,
    )


def _fate(source: Path, picture: Picture, fmt: Format, options: Options) -> Fate:
    header = picture.header
    try:
        size = output_size(header, fmt, options) or (header.height, header.width)
        declared = _DECLARED if options.provenance else None
        encoding = encoding_of(picture, fmt, size, quality=options.quality, provenance=declared)
    except PhotoError as error:
        return Fate(fmt, "refused", (str(error),))
    because = [note for note in notes_on(source, picture, encoding) if note not in picture.notes]
    if encoding.channels <= 2 and not fmt.grey:
        because.append("grey becomes RGB of three equal channels")
    if encoding.channels < header.channels:
        because.append("its transparency, which is full everywhere, is left out")
    return Fate(fmt, "converted" if because or header.cmyk else "kept", tuple(because))
