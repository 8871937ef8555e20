"""The flags of ``srbatch``'s commands that several of them have, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from srbatch.entry import options_of, with_globs_expanded
from srbatch.formats import Format
from srbatch.options import ENGINES, PRECISIONS, Options, TargetSize

EXIT_CODES = """\b
Exit codes:
    0  everything is done, or was before
    1  a bug in srbatch; please report the traceback
    2  wrong flags, or the output lies inside the input
    3  finished, but some photos failed (status, verify: failures or problems were found)
    4  weights missing or damaged
    5  no such device, device lost, or no photo fits into its memory
    6  the output cannot be written, its disk is full, or (status, verify) it has no ledger
    7  another run is writing to this output folder
  130  interrupted by Ctrl-C, 143 by SIGTERM, 129 by a terminal that was closed; run again to go on
"""

PATH = click.Path(path_type=Path, readable=False)  # what may not be read is told later, and costs itself


selection = options_of(
    click.option("--recursive/--no-recursive", default=True, help="Go into sub-folders.  [default: yes]"),
    click.option("--include", multiple=True, metavar="GLOB", help="Only files like this; may be repeated."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="No files like this; may be repeated."),
)
input_options = options_of(
    click.argument(
        "inputs", nargs=-1, required=True, type=PATH, metavar="PHOTOS...", callback=with_globs_expanded
    ),
    selection,
)
model = options_of(
    click.option(
        "--model", default="photo", show_default=True, help="A name of `srbatch models`, or a path."
    ),
    click.option(
        "--first",
        metavar="MODEL",
        help="Run this model before enlarging, such as restore against noise and grain.",
    ),
    click.option("--strength", default=1.0, show_default=True, help="0 (bicubic) to 1 (all of the network)."),
    click.option("--tta", is_flag=True, help="Average over 8 views: nearer to the truth, 8 times the time."),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu, mps, cuda, a list such as cuda:0,cuda:2, or all.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="What runs the network; auto takes openvino on a CPU if it is installed.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="Numbers to compute with; auto takes the fastest that DEVICE computes natively.",
    ),
    click.option("--tile", type=int, metavar="PX", help="Largest side of a tile.  [default: by free memory]"),
    click.option("--batch", type=int, metavar="N", help="Tiles per batch.  [default: by free memory]"),
)
codecs = options_of(
    click.option(
        "--codec-timeout",
        default=300.0,
        show_default=True,
        metavar="S",
        help="Seconds for reading one photo; writing gets more, a header less.",
    ),
    click.option(
        "--codec-memory",
        default=4096,
        show_default=True,
        metavar="MB",
        help="Memory for each process that reads or writes photos (Linux only).",
    ),
    click.option(
        "--max-megapixels", default=1000.0, show_default=True, metavar="MP", help="Refuse larger photos."
    ),
)
temporary = click.option(
    "--scratch", type=PATH, metavar="DIR", help="Where temporary files go.  [default: the system's]"
)
verbosity = options_of(
    click.option("-q", "--quiet", is_flag=True, help="Only errors and the summary."),
    click.option("-v", "--verbose", is_flag=True, help="Also what is going on inside."),
)


outputs = options_of(
    click.option(
        "--scale", type=float, metavar="F", help="Factor, from 1 (keep the size, only restore) to 8."
    ),
    click.option(
        "--long-edge", type=int, metavar="PX", help="Instead of --scale: pixels of the longer side."
    ),
    click.option(
        "--megapixels", type=float, metavar="MP", help="Instead of --scale: megapixels of the output."
    ),
    model,
    click.option(
        "--format",
        "format_name",
        type=click.Choice(["keep", *(fmt.value for fmt in Format if fmt.written)]),
        default="keep",
        show_default=True,
        help="Another format's ending is appended to the name: a.jpg.png.",
    ),
    click.option("--quality", default=95, show_default=True, help="For JPEG, WebP, AVIF and HEIC: 1 to 100."),
    click.option("--no-provenance", is_flag=True, help="Do not declare in the file that it was enhanced."),
    click.option("--keep-permissions", is_flag=True, help="Give each output the permissions of its photo."),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Also replace files in OUT that srbatch did not write, or that were edited.",
    ),
    click.option("--redo-changed", is_flag=True, help="Redo outputs that were made with other settings."),
    click.option("--retry-failed", is_flag=True, help="Try again photos that failed before."),
    click.option(
        "--state",
        type=PATH,
        metavar="DIR",
        help="Where the ledger (the record of what was done) is kept.  [default: OUT/.srbatch]",
    ),
    click.option(
        "--scratch", type=PATH, metavar="DIR", help="Where temporary files go.  [default: as --state]"
    ),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Processes that read and write photos.  [default: by cores and memory]",
    ),
    codecs,
)

out = click.argument("out", type=PATH)
"""An output folder that is there already; ``state`` goes with it."""
state = click.option("--state", type=PATH, metavar="DIR", help="Where the ledger is kept, if not in OUT.")
as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")


def chosen(
    *,
    scale: float | None,
    long_edge: int | None,
    megapixels: float | None,
    format_name: str,
    no_provenance: bool,
    codec_timeout: float,
    codec_memory: int,
    **others: Any,
) -> Options:
    """What the flags of ``outputs`` and those named like a field say."""
    return Options(
        size=TargetSize(scale, long_edge, megapixels),
        format=None if format_name == "keep" else Format(format_name),
        provenance=not no_provenance,
        codec_timeout_s=codec_timeout,
        codec_memory_mb=codec_memory,
        **others,
    )
