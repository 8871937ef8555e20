"""What an output declares of how it was made."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srbatch import __version__
from srbatch.formats import Format
from srbatch.names import show
from srbatch.options import Options

if TYPE_CHECKING:
    from srbatch.model import Model

SOFTWARE = f"srbatch {__version__}"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""What the URIs begin with that IPTC has for how a picture came to be."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """It stands in EXIF's Software and, all of it, in XMP."""

    software: str
    source_type: str
    """IPTC's URI for how a picture came to be."""
    action: str
    """A verb of XMP's ResourceEvent, such as "resized"."""
    parameters: str
    """What was done, for people: the enlargement, the model and its hash."""
    source_sha256: str
    """Of the photo's file, in hexadecimal."""

    @property
    def instance(self) -> str:
        """The output's InstanceID. The same photo and work give the same, and so the same bytes."""
        made = f"{self.source_sha256} {self.software} {self.source_type} {self.parameters}"
        return f"xmp.iid:{uuid.uuid5(uuid.NAMESPACE_OID, made)}"


def provenance_of(
    source_sha256: str,
    size_in: tuple[int, int],
    size_out: tuple[int, int],
    fmt: Format,
    options: Options,
    model: Model,
    *,
    lossless: bool,
) -> Provenance | None:
    """The declaration of one output; None if the user wants nothing said.

    Args:
        source_sha256: of the photo's file, in hexadecimal.
        size_in: (height, width) of the photo.
        size_out: (height, width) of the output.
        fmt: format of the output.
        options: of the run.
        model: of the run.
        lossless: whether the output loses nothing if it is WebP.
    """
    if not options.provenance:
        return None
    (height_in, width_in), (height_out, width_out) = size_in, size_out
    done = [
        f"{options.size} from {width_in} x {height_in} px to {width_out} x {height_out} px",
        _encoding(fmt, options.quality, lossless=lossless),
        *_models(options, model),
    ]
    if options.strength != 1:
        done.append(f"strength {options.strength:g}")
    if options.tta:
        done.append("averaged over eight views")
    return Provenance(
        software=SOFTWARE,
        source_type=model.source_type,
        action="edited" if size_in == size_out else "resized",
        parameters=", ".join(done),
        source_sha256=source_sha256,
    )


def _models(options: Options, model: Model) -> list[str]:
    """What was run, in that order."""
    last = f"model {show(Path(options.model).stem)} (sha256 {model.sha256})"
    if options.first is None or model.first is None:
        return [last]
    first = f"first, at the photo's own size, model {show(Path(options.first).stem)}"
    return [f"{first} (sha256 {model.first.sha256})", f"then {last}"]


def _encoding(fmt: Format, quality: int, *, lossless: bool) -> str:
    if lossless and fmt is Format.WEBP:
        return f"as lossless {fmt.value}"
    return f"as {fmt.value}" + (f" of quality {quality}" if fmt.lossy else "")
