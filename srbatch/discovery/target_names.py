"""What an output is called: by the name of its photo alone, so that a later run gives the same."""

from __future__ import annotations

from pathlib import Path

from srbatch.errors import UsageError
from srbatch.formats import Format
from srbatch.names import show
from srbatch.places import is_folder

UNSUPPORTED_PICTURES = frozenset(
    ".jxl .jpm .psd .psb .exr .hdr .dng .cr2 .cr3 .nef .nrw .arw .sr2 "
    ".orf .rw2 .raf .pef .srw .raw .x3f .3fr .iiq .crw .mrw .rwl .kdc .dcr .erf .mef .mos .fff .gpr .srf "
    ".tga .pcx .pcd .pbm .ppm .pgm .pnm .pam .pfm .xcf .jxr .wdp .hdp .svg".split()
)
"""Pictures that are not read: each is reported as a photo that failed, never passed over in silence."""


def is_file_target(inputs: tuple[Path, ...], out: Path) -> bool:
    """Whether ``out`` is the name of the one output rather than a folder."""
    fmt = Format.of_name(out.name)
    return (
        len(inputs) == 1
        and not is_folder(inputs[0])
        and not is_folder(out)
        and fmt is not None
        and fmt.written
    )


def check_name(inputs: tuple[Path, ...], out: Path, to: Format | None) -> None:
    """What the name of ``out`` says must be what is made of it.

    Raises:
        UsageError: it says another format than ``to``, or a picture where a folder would be made.
    """
    fmt = Format.of_name(out.name)
    if is_file_target(inputs, out):
        if fmt is not None and to not in (None, fmt):
            raise UsageError(
                f"--out {show(out)} is named like {fmt.value} and --format says {to.value}; let them agree,"
                " or leave --format out"
            )
    elif is_picture(out.name) and not is_folder(out):
        alone = len(inputs) == 1 and not is_folder(inputs[0])
        why = f"{out.suffix.lower()} files are not written" if alone else "it would be a folder"
        raise UsageError(
            f"--out {show(out)} is named like a picture, and {why}; choose another name, or make a folder of"
            " that name first"
        )


def target_name(name: str, to: Format | None) -> str:
    """The output's name, from the source's name alone: kept, or the new format's extension appended.

    A format that is only read has PNG for its own. An extension is appended once more to a name that looks
    as if that had been done to another photo, so that two names of photos which differ, in more than case,
    always give two that do.

    >>> [target_name(name, Format.PNG) for name in ("a.jpg", "a.png", "a.jpg.png", "a.jpg.png.png")]
    ['a.jpg.png', 'a.png', 'a.jpg.png.png', 'a.jpg.png.png.png']
    >>> [target_name(name, None) for name in ("a.jpg", "a.bmp", "a.bmp.png", "a.png")]
    ['a.jpg', 'a.bmp.png', 'a.bmp.png.png', 'a.png']
    """
    new = to or Format.PNG
    suffix, before = new.suffixes[0], name
    while len(before) > len(suffix) and before[-len(suffix) :].lower() == suffix:
        before = before[: -len(suffix)]
    if to is None and _is_written(before):
        return name
    if Format.of_name(before) is new or (before != name and not is_picture(before)):
        return name
    return name + suffix


def _is_written(name: str) -> bool:
    fmt = Format.of_name(name)
    return fmt is None or fmt.written


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture, also of a kind that is not read."""
    return Format.of_name(name) is not None or Path(name).suffix.lower() in UNSUPPORTED_PICTURES
