"""The models that come along: the pixels that they were released with, and what each of them is for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srbatch import weights
from srbatch.upscaling.upscaler import Upscaler
from tests.conftest import sample
from trainer.data import to_floats, to_integers
from trainer.degradations.damage import parse_damage
from trainer.evaluation.metrics import colour_drift, psnr

GOLDEN = Path(__file__).parent / "golden"
PIECE = np.ascontiguousarray(sample()[100:292, 200:456])
"""A pagoda's roofs, trees and sky, from scikit-learn's china.jpg (by danielbuechele, CC BY 2.0)."""


def restored(name: str, pixels: np.ndarray) -> np.ndarray:
    """What a model makes of uint8 (H, W, 3) at the same size."""
    model = weights.load(weights.find(name))
    card = model.card
    margins = {"halo": card.halo_px, "ramp": card.ramp_px}
    upscaler = Upscaler(model.network, scales=card.scales, **margins, device="cpu", precision="fp32")
    return upscaler.enlarge_whole(pixels, pixels.shape[:2])


def damaged(kind: str) -> np.ndarray:
    """`PIECE` as an evaluation would damage it."""
    return to_integers(parse_damage(kind)(to_floats(PIECE), 0)[0])


def against_the_photo(pixels: np.ndarray) -> float:
    """PSNR in dB over RGB."""
    return psnr(to_floats(pixels), to_floats(PIECE), 0)


@pytest.mark.parametrize(("name", "scale"), [("photo", 1), ("photo", 2), ("photo", 4), ("restore", 1)])
def test_shipped_weights_give_the_golden_pixels(name: str, scale: int) -> None:
    """The expected pixels are from the code that trained the weights."""
    with np.load(GOLDEN / f"{name}-parity.npz") as golden:
        x = torch.from_numpy(golden["input"]).permute(2, 0, 1)[None] / 255  # (1, 3, 64, 32)
        expected = golden[f"x{scale}"].astype(int)  # (64 scale, 32 scale, 3) in [0, 255]
    network = weights.load(weights.find(name)).network
    y = network.enlarge(x, scale) + network(x, scale)
    got = (y[0].clamp(0, 1) * 255).round().int().permute(1, 2, 0).numpy()
    levels, counts = np.unique(np.abs(got - expected), return_counts=True)
    assert levels.max() <= 1, f"differences: {dict(zip(levels.tolist(), counts.tolist(), strict=True))}"


def test_released_models_are_faithful_where_they_should_be() -> None:
    cards = {card.name: card for path, card in weights.released() if card.name == path.stem}
    assert len(cards) == len(weights.released())
    assert not cards["photo"].generative
    assert cards["photo"].scales == (1, 2, 4)
    assert not cards["restore"].generative
    assert cards["restore"].scales == (1,)


@pytest.mark.parametrize(
    ("kind", "gain"), [("noise:25", 5), ("grain:25", 3), ("jpeg:q10", 0.5), ("jpeg:q30", 0.4)]
)
def test_restore_takes_out_noise_and_traces_of_jpeg(kind: str, gain: float) -> None:
    before = damaged(kind)
    after = restored("restore", before)
    assert against_the_photo(after) > against_the_photo(before) + gain
    assert colour_drift(to_floats(after), to_floats(before), 1) < 8


def test_restore_leaves_a_clean_photo_and_what_is_written_on_it() -> None:
    # Not the 47 dB of a clean photo: this one has noise and traces of JPEG of its own.
    assert against_the_photo(restored("restore", PIECE)) > 35
    written, mask = parse_damage("text")(to_floats(PIECE), 3)
    written = to_integers(written)
    kept = restored("restore", written)
    assert mask is not None
    assert psnr(to_floats(kept), to_floats(written), 0, mask=mask) > 30


def test_restore_gives_a_grey_photo_no_colours() -> None:
    grey = np.array(Image.fromarray(damaged("noise:10")).convert("L").convert("RGB"))
    grey[0, 0, 0] ^= 1  # else it is none in RGB to begin with, for the upscaler
    result = restored("restore", grey).astype(int)
    assert np.abs(result - result.mean(axis=2, keepdims=True)).max() < 12


@pytest.mark.parametrize("name", ["photo", "restore"])
def test_traces_of_jpeg_are_taken_out_wherever_their_blocks_begin(name: str) -> None:
    """Of a photo that was cropped since; a network that has learnt one place takes others for the photo."""
    before = {cropped: damaged(f"jpeg:q30{cropped}") for cropped in ("", "+3", "+4", "+9")}
    gains = {
        cropped: against_the_photo(restored(name, pixels)) - against_the_photo(pixels)
        for cropped, pixels in before.items()
    }
    assert min(gains.values()) > 0.6 * gains[""] > 0.2, gains


def test_photo_takes_out_mild_traces_and_leaves_a_clean_photo() -> None:
    file = io.BytesIO()
    Image.fromarray(PIECE).save(file, "JPEG", quality=50)
    before = np.asarray(Image.open(file))
    assert against_the_photo(restored("photo", before)) > against_the_photo(before) + 0.5
    assert against_the_photo(restored("photo", PIECE)) > 45
