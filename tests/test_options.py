"""What can be asked for, and the sizes that follow from it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.errors import UsageError
from srbatch.formats import Format
from srbatch.options import Options, TargetSize

NAN, INF = math.nan, math.inf

sides = st.integers(1, 65_500)


def options(**changes: object) -> Options:
    return Options(**{"inputs": (Path("photos"),), "out": Path("hi"), **changes})  # type: ignore[arg-type]


# ---- bounds --------------------------------------------------------------------------------------


OUT_OF_RANGE = {
    ("--strength", "strength"): [-0.01, 1.01, NAN, INF],
    ("--quality", "quality"): [0, 101, -1],
    ("--tile", "tile"): [0, 31, 33, 250, -32],
    ("--batch", "batch"): [0, -1],
    ("--engine", "engine"): ["tensorrt", "", "OpenVINO"],
    ("--precision", "precision"): ["fp8", "", "FP32"],
    ("--codec-timeout", "codec_timeout_s"): [0, -1, NAN],
    ("--codec-memory", "codec_memory_mb"): [0, 255, -1],
    ("--max-megapixels", "max_megapixels"): [0, -1, NAN],
    ("--report", "report"): [Path("report.txt"), Path("report"), Path("csv")],
}


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [(flag, name, value) for (flag, name), values in OUT_OF_RANGE.items() for value in values],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_flag(flag: str, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{flag} "):
        options(**{name: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"strength": 0},
        {"strength": 1},
        {"quality": 1},
        {"quality": 100},
        {"tile": 32},
        {"tile": 4096},
        {"batch": 1},
        {"engine": "torch"},
        {"precision": "fp16"},
        {"codec_timeout_s": 0.1},
        {"codec_memory_mb": 256},
        {"max_megapixels": 0.1},
        {"report": Path("report.csv")},
        {"report": Path("report.json")},
        {"format": Format.TIFF},
    ],
    ids=str,
)
def test_a_value_at_the_bound_is_taken(changes: dict[str, object]) -> None:
    made = options(**changes)
    assert {name: getattr(made, name) for name in changes} == changes


def test_nothing_to_upscale_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one photo or folder"):
        options(inputs=())


@pytest.mark.parametrize("name", ["overwrite", "redo_changed", "retry_failed", "rehash"])
def test_nothing_is_overwritten_redone_or_retried_unless_asked(name: str) -> None:
    assert getattr(options(), name) is False


@pytest.mark.parametrize(
    ("flag", "size"),
    [
        ("--scale", {"scale": 0.99}),
        ("--scale", {"scale": 8.01}),
        ("--scale", {"scale": 0}),
        ("--scale", {"scale": -2}),
        ("--scale", {"scale": NAN}),
        ("--scale", {"scale": INF}),
        ("--long-edge", {"long_edge": 0}),
        ("--long-edge", {"long_edge": -5}),
        ("--megapixels", {"megapixels": 0}),
        ("--megapixels", {"megapixels": -1}),
        ("--megapixels", {"megapixels": 1e6}),
        ("--megapixels", {"megapixels": NAN}),
        ("--megapixels", {"megapixels": INF}),
    ],
    ids=str,
)
def test_a_size_out_of_range_is_refused_by_the_name_of_its_flag(flag: str, size: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"^{flag} "):
        TargetSize(**size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size",
    [
        {},
        {"scale": 2, "long_edge": 4000},
        {"scale": 2, "megapixels": 4},
        {"long_edge": 4000, "megapixels": 4},
        {"scale": 2, "long_edge": 4000, "megapixels": 4},
    ],
    ids=str,
)
def test_exactly_one_way_to_say_the_size_is_needed(size: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="one of --scale, --long-edge and --megapixels"):
        TargetSize(**size)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (TargetSize(scale=4), "x4"),
        (TargetSize(scale=1.5), "x1.5"),
        (TargetSize(long_edge=6000), "long edge 6000 px"),
        (TargetSize(megapixels=24), "24 MP"),
    ],
)
def test_a_size_reads_as_people_say_it(size: TargetSize, text: str) -> None:
    assert str(size) == text


# ---- sizes ---------------------------------------------------------------------------------------

targets = st.one_of(
    st.builds(TargetSize, scale=st.floats(1, 8)),
    st.builds(TargetSize, long_edge=st.integers(1, 500_000)),
    st.builds(TargetSize, megapixels=st.floats(1e-6, 1e5)),
)


@given(targets, sides, sides)
def test_a_photo_never_becomes_smaller(target: TargetSize, height: int, width: int) -> None:
    size = target.of(height, width)
    if size is not None:
        assert size[0] >= height
        assert size[1] >= width


@given(targets, sides, sides)
def test_the_aspect_ratio_is_kept_to_half_a_pixel(target: TargetSize, height: int, width: int) -> None:
    size = target.of(height, width)
    if size is not None:
        # A factor between these gives both sides when it is rounded.
        low = max((size[0] - 0.5) / height, (size[1] - 0.5) / width)
        high = min((size[0] + 0.5) / height, (size[1] + 0.5) / width)
        assert low <= high * (1 + 1e-12)


@given(targets, sides, sides)
def test_turning_a_photo_turns_its_size(target: TargetSize, height: int, width: int) -> None:
    size, turned = target.of(height, width), target.of(width, height)
    assert turned == (size and size[::-1])


@given(st.floats(1, 8), sides, sides)
def test_a_factor_is_kept_to_half_a_pixel(scale: float, height: int, width: int) -> None:
    size = TargetSize(scale=scale).of(height, width)
    assert size is not None
    assert abs(size[0] - height * scale) <= 0.5
    assert abs(size[1] - width * scale) <= 0.5


@given(sides, sides)
def test_a_factor_of_1_restores_at_the_same_size(height: int, width: int) -> None:
    assert TargetSize(scale=1).of(height, width) == (height, width)


@given(st.integers(1, 500_000), sides, sides)
def test_the_long_edge_is_hit_exactly_or_the_photo_has_it_already(
    long_edge: int, height: int, width: int
) -> None:
    size = TargetSize(long_edge=long_edge).of(height, width)
    if max(height, width) >= long_edge:
        assert size is None
    else:
        assert size is not None
        assert max(size) == long_edge


@given(st.floats(1e-6, 1e5), sides, sides)
def test_megapixels_are_hit_as_near_as_whole_pixels_allow_or_the_photo_has_them_already(
    megapixels: float, height: int, width: int
) -> None:
    wanted = megapixels * 1e6
    size = TargetSize(megapixels=megapixels).of(height, width)
    if size is None:
        # At most half a pixel of the longer side is missing.
        assert wanted <= height * width * (1 + 0.5 / max(height, width)) ** 2 * (1 + 1e-9)
    else:
        assert abs(size[0] * size[1] - wanted) <= 0.5 * sum(size) + 0.25 + wanted * 1e-9


def test_heic_is_offered_only_with_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"pillow_heif"}
    monkeypatch.setattr("srbatch.options.find_spec", lambda name: object() if name in known else None)
    assert Options(inputs=(Path("a"),), out=Path("b"), format=Format.HEIC).format is Format.HEIC
    known.clear()
    with pytest.raises(UsageError, match=r"--format heic: .*srbatch\[heif\]"):
        Options(inputs=(Path("a"),), out=Path("b"), format=Format.HEIC)


def test_openvino_is_offered_only_with_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"openvino"}
    monkeypatch.setattr("srbatch.options.find_spec", lambda name: object() if name in known else None)
    assert options(engine="openvino").engine == "openvino"
    assert options(engine="openvino", device="cpu").device == "cpu"
    known.clear()
    with pytest.raises(UsageError, match=r"--engine openvino: .*srbatch\[openvino\]"):
        options(engine="openvino")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_openvino_is_refused_where_it_does_not_run(device: str) -> None:
    with pytest.raises(UsageError, match=f"--engine openvino: .*--device {device}"):
        options(engine="openvino", device=device)
