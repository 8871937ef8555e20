"""An evaluation from end to end on small pictures, with tiny networks."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srbatch import weights
from srbatch.card import Card, NetworkConfig
from srbatch.errors import DestinationError, DeviceError, OutOfMemory, UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.upscaling.upscaler import Upscaler
from tests.conftest import crop
from tests.networks import Faulty, Nothing
from trainer.degradations.reduction import bicubic_downsample
from trainer.evaluation import bench, metrics
from trainer.evaluation.bench import Bench
from trainer.evaluation.evaluate import _head, evaluate
from trainer.evaluation.results import COLUMNS

METHODS = ["nearest", "bilinear", "bicubic", "lanczos", "prediction"]


@pytest.fixture(scope="module")
def model(thin_encoder: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network of random weights, whose heads add a little to the bicubic picture."""
    torch.manual_seed(5)
    config = NetworkConfig(encoder="resnet18", features=4, refine_blocks=0, stages=2)
    network = SuperResolutionNet(config).eval()
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=0.01)
    card = Card("tiny", "0.0", "random weights", "none", config, config.scales, halo_px=0, ramp_px=32)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(path, network, card, "fp32")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three good ones of odd sizes, one too small, one damaged, and what is none."""
    folder = tmp_path / "Set3"
    folder.mkdir()
    crop(99, 131).save(folder / "a.png")
    crop(101, 90, name="flower.jpg").convert("L").save(folder / "b.png")
    crop(70, 121, top=20).save(folder / "c.jpg", quality=95)
    crop(30, 90).save(folder / "small.png")
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "list.txt").write_text("no picture")
    (folder / ".a.png").write_bytes(b"")
    return folder


def run(model: Path, data: Path, scale: int, **changes: object) -> object:
    settings: dict[str, object] = {"device": "cpu", "precision": "fp32", "out": data.parent / "out"}
    return evaluate(model, data, scale=scale, **{**settings, **changes})


def test_x4_from_end_to_end(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 4)
    out = pictures.parent / "out"
    seen = ["a.png", "b.png", "c.jpg"]
    assert [name for name, _ in results.left_out] == ["small.png", "torn.png"]
    assert list(results.summary) == METHODS
    assert sorted(path.name for path in out.iterdir()) == [
        *("best.png", "images.csv", "median.png", "results.json", "results.md", "sheets.pdf", "worst.png")
    ]
    for key in ("psnr_y", "ssim_rgb", "colour_drift", "colour_error", "grid_textured_2"):
        assert all(np.isfinite(values[key]) for values in results.summary.values()), key

    with (out / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["method"]) for row in rows] == [(i, m) for i in seen for m in METHODS]
    mean = np.mean([float(row["psnr_y"]) for row in rows if row["method"] == "bicubic"])
    assert results.summary["bicubic"]["psnr_y"] == pytest.approx(mean)

    stored = json.loads((out / "results.json").read_text("utf-8"))
    assert stored["summary"] == results.summary
    assert stored["protocol"] == results.protocol


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_at_a_terminal(
    model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(sys, "stderr", Stream())
    run(model, pictures, 2)
    assert ("3/3" in sys.stderr.getvalue()) == terminal


def test_the_report_states_the_protocol(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 4, degrade="jpeg:q10", strength=0.5)
    text = (pictures.parent / "out" / "results.md").read_text("utf-8")
    assert text == results.describe()
    for part in (
        "# tiny 0.0 on Set3 x4, jpeg:q10",
        hashlib.sha256(model.read_bytes()).hexdigest(),
        "Set3, 3 pictures",
        "**head:** x4",
        "cpu, fp32, strength 0.5",
        "MATLAB's imresize",
        "rounded to 8 bits",
        "JPEG by libjpeg at quality 10",
        "a border of 4 px",
        "**feature distance:** not measured, no weights were given for it",
        "**LPIPS:** not measured",
        "| prediction | ",
        "- small.png: 90 x 30 px, less than 44 px a side",
        "- torn.png: cannot be read",
    ):
        assert part in text, part


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_other_methods_are_pillows(model: Path, pictures: Path, scale: int) -> None:
    results = run(model, pictures, scale)
    with Image.open(pictures / "a.png") as image:
        pixels = np.asarray(image)
    target = pixels[: 99 // scale * scale, : 131 // scale * scale]
    small = np.rint(bicubic_downsample(target / np.float32(255), scale) * 255).astype(np.uint8)
    large = Image.fromarray(small).resize(target.shape[1::-1], Image.Resampling.BICUBIC)
    expected = metrics.psnr(metrics.luma(np.asarray(large) / 255), metrics.luma(target / 255), scale)
    values = next(row.values for row in results.rows if (row.image, row.method) == ("a.png", "bicubic"))
    assert values["psnr_y"] == pytest.approx(expected, abs=1e-3)


def test_x1_compares_with_the_damaged_input(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 1, degrade="holes", strength=0.0)
    assert list(results.summary) == ["input", "prediction"]
    assert results.summary["input"] == results.summary["prediction"]  # of strength 0: nothing is changed
    damaged = results.summary["input"]
    assert damaged["psnr_y_mask"] < damaged["psnr_y"]
    assert "a border of 0 px" in results.describe()
    assert "the picture itself" in results.describe()


def test_eight_views_are_another_result_and_the_report_says_so(model: Path, pictures: Path) -> None:
    one = run(model, pictures, 2)
    eight = run(model, pictures, 2, tta=True)
    assert eight.protocol["run"] == one.protocol["run"] + ", tta"
    assert eight.summary["prediction"] != one.summary["prediction"]
    assert eight.summary["bicubic"] == one.summary["bicubic"]


def test_what_is_run_first_is_named_and_counts(model: Path, pictures: Path) -> None:
    alone, both = run(model, pictures, 2), run(model, pictures, 2, first=str(model))
    assert both.title == f"tiny 0.0, then {alone.title}"
    assert both.protocol["run first, at x1"] == both.protocol["weights"]
    assert both.summary["bicubic"] == alone.summary["bicubic"]
    assert both.summary["prediction"] != alone.summary["prediction"]
    without = run(model, pictures, 2, first=str(model), strength=0.0)
    assert without.summary["prediction"] == run(model, pictures, 2, strength=0.0).summary["prediction"]


def test_what_is_run_first_has_to_serve_x1(model: Path, pictures: Path, tmp_path: Path) -> None:
    loaded, other = weights.load(model), tmp_path / "x2.safetensors"
    weights.save(other, loaded.network, replace(loaded.card, scales=(2,)), "fp16")
    with pytest.raises(UsageError, match=r"--first .*: the model tiny 0.0 does not serve x1"):
        run(model, pictures, 2, first=str(other))


def test_x1_without_damage_has_no_finite_psnr(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 1, strength=0.0)
    assert results.summary["prediction"]["psnr_rgb"] == float("inf")
    stored = json.loads((pictures.parent / "out" / "results.json").read_text("utf-8"))
    assert stored["summary"]["prediction"]["psnr_rgb"] is None


def test_a_mask_is_that_of_the_enlarged_picture(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 2, degrade="holes")
    for row in results.rows:
        assert row.values["psnr_rgb_mask"] < row.values["psnr_rgb"]


def test_damage_depends_on_the_name_alone(model: Path, pictures: Path) -> None:
    everything = run(model, pictures, 2, degrade="holes")
    (pictures / "a.png").unlink()
    fewer = run(model, pictures, 2, degrade="holes")
    assert [row for row in everything.rows if row.image != "a.png"] == list(fewer.rows)


def test_feature_distance_stands_in_relation_to_bicubic(
    model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Difference:
        MIN_SIDE_PX = 32

        def __init__(self, file: Path, device: torch.device) -> None:
            assert file == model

        def __call__(self, pictures: Iterable[np.ndarray], target: np.ndarray) -> list[float]:
            return [float(np.abs(picture - target).mean()) for picture in pictures]

    monkeypatch.setattr(bench, "FeatureDistance", Difference)
    results = run(model, pictures, 4, feature_weights=model)
    assert results.summary["bicubic"]["distance_ratio"] == 1
    for method in METHODS:
        rows = [row.values for row in results.rows if row.method == method]
        bicubic = [row.values["distance"] for row in results.rows if row.method == "bicubic"]
        expected = np.mean([row["distance"] / other for row, other in zip(rows, bicubic, strict=True)])
        assert results.summary[method]["distance_ratio"] == pytest.approx(expected)
    assert f"DenseNet-169 (tiny.safetensors, sha256 {hashlib.sha256(model.read_bytes()).hexdigest()})" in (
        results.describe()
    )


def test_every_figure_has_a_heading(model: Path, pictures: Path) -> None:
    results = run(model, pictures, 2, degrade="holes")
    assert {key for row in results.rows for key in row.values} <= set(COLUMNS)
    assert all(set(values) <= set(COLUMNS) for values in results.summary.values())


def test_heads() -> None:
    heads = (1, 2, 4)
    assert [_head(heads, scale) for scale in (1, 2, 3, 4, 6, 8, 16)] == [
        "x1",
        "x2",
        "x4, reduced by Lanczos",
        "x4",
        "x4, and its result through x2, reduced by Lanczos",
        "x4, and its result through x2",
        "x4, and its result through x4",
    ]


# ---- faults ------------------------------------------------------------------------------------------------


def test_out_of_memory_is_met_with_smaller_tiles(pictures: Path) -> None:
    network = Faulty(Nothing(), 0, "out of memory", times=2)
    upscaler = Upscaler(network, scales=(1, 2), halo=0, ramp=32, device="cpu", tile=256, batch=4)
    made = Bench.of(upscaler, 2, None, None).sample(pictures / "a.png")
    assert network.calls > 2
    assert made.outputs["prediction"].shape == made.target.shape == (98, 130, 3)


def test_too_little_memory_for_anything(pictures: Path) -> None:
    network = Faulty(Nothing(), 0, "out of memory", times=1000)
    upscaler = Upscaler(network, scales=(1, 2), halo=0, ramp=32, device="cpu", tile=256, batch=4)
    with pytest.raises(DeviceError, match="too little memory"):
        Bench.of(upscaler, 2, None, None).sample(pictures / "a.png")
    with pytest.raises(OutOfMemory):
        list(upscaler.enlarge(np.zeros((64, 64, 3), np.uint8), (128, 128)))


def test_folders_that_hold_nothing_to_measure(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        run(model, tmp_path / "nowhere", 2)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no pictures"):
        run(model, empty, 2)
    crop(20, 20).save(empty / "tiny.png")
    with pytest.raises(UsageError, match=r"tiny.png: 20 x 20 px"):
        run(model, empty, 2)


def test_settings_that_mean_nothing(model: Path, pictures: Path) -> None:
    with pytest.raises(UsageError, match="rust"):
        run(model, pictures, 2, degrade="rust")
    for scale in (0, 9, 16):
        with pytest.raises(UsageError, match=f"--scale {scale}: a whole factor from 1 to 8 is possible"):
            run(model, pictures, scale)
    with pytest.raises(WeightsError):
        run(pictures / "list.txt", pictures, 2)
    with pytest.raises(WeightsError, match="nonsense"):
        run("nonsense", pictures, 2)


def test_an_output_that_cannot_be_written(model: Path, pictures: Path) -> None:
    (pictures.parent / "out" / "results.md").mkdir(parents=True)
    with pytest.raises(DestinationError):
        run(model, pictures, 2)
