"""Everything that the user chose for one run, checked when it is put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from srbatch.card import STRIDE
from srbatch.errors import UsageError
from srbatch.formats import Format

MAX_FACTOR = 8
"""Beyond this the network would only invent."""

ENGINES = ("auto", "torch", "openvino")

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

REPORT_SUFFIXES = (".csv", ".json")


def check_strength(strength: float) -> None:
    """See that it is a share.

    Raises:
        UsageError: it is not from 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength {strength:g}: from 0 (bicubic) to 1 (the network's result)")


@dataclass(frozen=True, slots=True)
class TargetSize:
    """How large the outputs shall be: exactly one of the three is set."""

    scale: float | None = None
    """Factor of both sides, 1 to 8; 1 restores at the same size."""
    long_edge: int | None = None
    """Pixels of the longer side."""
    megapixels: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.scale, self.long_edge, self.megapixels) if v is not None]
        if len(given) != 1:
            raise UsageError("give one of --scale, --long-edge and --megapixels")
        if self.scale is not None and not 1 <= self.scale <= MAX_FACTOR:
            raise UsageError(f"--scale {self.scale:g}: a factor from 1 to {MAX_FACTOR} is possible")
        if self.long_edge is not None and self.long_edge < 1:
            raise UsageError(f"--long-edge {self.long_edge}: at least 1 pixel")
        if self.megapixels is not None and not 0 < self.megapixels < 1e6:
            raise UsageError(f"--megapixels {self.megapixels:g}: a size above 0 is needed")

    def of(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) of the output for a photo of height x width pixels, or None for an enlargement

        that would be none: the photo is that large already.
        """
        if self.scale is not None:
            factor = self.scale
        elif self.long_edge is not None:
            factor = self.long_edge / max(height, width)
        else:
            assert self.megapixels is not None
            factor = (self.megapixels * 1e6 / (height * width)) ** 0.5
        if factor < 1 or (self.scale is None and round(max(height, width) * factor) <= max(height, width)):
            return None
        return max(round(height * factor), 1), max(round(width * factor), 1)

    def __str__(self) -> str:
        if self.scale is not None:
            return f"x{_exact(self.scale)}"
        if self.long_edge is not None:
            return f"long edge {self.long_edge} px"
        return f"{_exact(self.megapixels or 0.0)} MP"


def _exact(number: float) -> str:
    """All of its digits: two sizes that differ must not read the same."""
    return repr(float(number)).removesuffix(".0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run of ``srbatch upscale``.

    Raises:
        UsageError: a value is out of range; the message names the flag.
    """

    inputs: tuple[Path, ...]
    out: Path
    size: TargetSize = field(default_factory=lambda: TargetSize(scale=4))

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    model: str = "photo"
    first: str | None = None
    """A model that is run before, at the photo's own size."""
    strength: float = 1.0
    tta: bool = False
    """Average the network over eight views of each tile."""
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    batch: int | None = None

    format: Format | None = None
    """None keeps each photo's own."""
    quality: int = 95
    provenance: bool = True
    keep_permissions: bool = False

    overwrite: bool = False
    redo_changed: bool = False
    retry_failed: bool = False
    rehash: bool = False

    state: Path | None = None
    scratch: Path | None = None
    report: Path | None = None
    workers: int | None = None
    """Processes that read and write photos; None: by the machine's cores and memory."""
    codec_timeout_s: float = 300.0
    codec_memory_mb: int = 4096
    max_megapixels: float = 1000.0

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("name at least one photo or folder to upscale")
        check_strength(self.strength)
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality}: from 1 to 100")
        if self.format is Format.HEIC and find_spec("pillow_heif") is None:
            raise UsageError(
                "--format heic: it needs a library that is not installed: pip install 'srbatch[heif]'"
            )
        if self.tile is not None and (self.tile < STRIDE or self.tile % STRIDE):
            raise UsageError(f"--tile {self.tile}: a multiple of {STRIDE} is needed, for example 256")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch {self.batch}: at least 1")
        self._check_engine()
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision}: one of {', '.join(PRECISIONS)}")
        if self.workers is not None and not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers}: from 1 to 256")
        if not 0 < self.codec_timeout_s < float("inf"):
            raise UsageError(f"--codec-timeout {self.codec_timeout_s:g}: more than 0 seconds")
        if self.codec_memory_mb < 256:
            raise UsageError(f"--codec-memory {self.codec_memory_mb}: at least 256 MB")
        if not self.max_megapixels > 0:
            raise UsageError(f"--max-megapixels {self.max_megapixels:g}: more than 0")
        if self.report is not None and self.report.suffix not in REPORT_SUFFIXES:
            raise UsageError(f"--report {self.report}: the name ends in .csv or .json")

    def _check_engine(self) -> None:
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine}: one of {', '.join(ENGINES)}")
        if self.engine != "openvino":
            return
        if self.device not in ("auto", "cpu"):
            raise UsageError(f"--engine openvino: it runs on the CPU, not on --device {self.device}")
        if find_spec("openvino") is None:
            raise UsageError(
                "--engine openvino: it needs a library that is not installed: pip install 'srbatch[openvino]'"
            )

    @property
    def max_pixels(self) -> float:
        """The largest photo that is read."""
        return self.max_megapixels * 1e6
