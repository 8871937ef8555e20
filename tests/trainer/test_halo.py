"""The halo: networks whose reach is known, the rule that picks, and the blend that it is measured with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from srbatch.card import MAX_MARGIN_PX, NetworkConfig
from srbatch.errors import WeightsError
from srbatch.upscaling.tiling import Axis
from tests.networks import Local
from trainer.data import Stores
from trainer.degradations.degrade import Degradations
from trainer.degradations.photographic import Jpeg, Noise
from trainer.exporting import halo
from trainer.exporting.halo import Choice, Margin
from trainer.exporting.release import measure_halo
from trainer.photos import Store, find_all

TILE_PX = 160
WHOLE_PX = TILE_PX + 128


class Heads(nn.Module):
    """Gives a network that takes (x, scale) what `measure` wants of a SuperResolutionNet: heads x1 and x2."""

    stride = 32
    config = NetworkConfig(stages=1)

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.anchor = nn.Parameter(torch.zeros(()))  # tells the device

    def residuals(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.inner(x, scale) for scale in self.config.scales]


class Shift(nn.Module):
    """Every pixel is what lies ``reach`` px above and left of it; beyond the tile: black, or its rim."""

    def __init__(self, reach: int, beyond: str = "constant") -> None:
        super().__init__()
        self.reach = reach
        self.beyond = beyond

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        side = x.shape[-1]
        seen = F.pad(x, (self.reach, 0, self.reach, 0), self.beyond)[..., :side, :side]
        return F.interpolate(seen, scale_factor=scale, mode="nearest")


def measured(inner: nn.Module) -> dict[tuple[int, int], Margin]:
    photos = 0.1 + 0.9 * torch.rand(2, 3, WHOLE_PX, WHOLE_PX, generator=torch.Generator().manual_seed(1))
    margins = halo.measure(Heads(inner), photos.split(1), tile_px=TILE_PX)
    return {(margin.halo_px, margin.ramp_px): margin for margin in margins}


@pytest.fixture(scope="module")
def shifted() -> dict[tuple[int, int], Margin]:
    return measured(Shift(40))


def test_a_reach_of_40_px_needs_a_halo_of_40_px(shifted: dict[tuple[int, int], Margin]) -> None:
    assert halo.choose(list(shifted.values())) == Choice(shifted[40, 16], met=True)
    assert shifted[40, 16].within == {1: 1.0, 2: 1.0}
    assert shifted[40, 16].largest == {1: 0.0, 2: 0.0}
    assert shifted[40, 16].overlap_px == 96


def test_what_a_halo_too_small_leaves_is_counted_exactly(shifted: dict[tuple[int, int], Margin]) -> None:
    kept, right = TILE_PX - 2 * 32, TILE_PX - 32 - 40  # every pixel within 40 px of two of the sides is wrong
    margin = shifted[32, 0]
    assert margin.within[1] == pytest.approx(right**2 / kept**2)
    assert margin.within[2] == pytest.approx(right**2 / kept**2)
    assert 250 < margin.largest[1] <= 255
    assert shifted[32, 32].largest[1] < 255 * 0.15  # 8 px into the ramp the weight is sin(pi / 8)**2


def test_a_reach_of_2_px_needs_the_smallest_overlap() -> None:
    margins = measured(Local())
    choice = halo.choose(list(margins.values()))
    assert choice == Choice(margins[0, 32], met=True)  # in the first 2 px of so long a ramp nothing counts
    assert choice.margin.overlap_px == 32
    assert "halo 0 px, ramp 32 px, 100.000% within 1/255" in str(choice)
    assert margins[8, 8].largest == {1: 0.0, 2: 0.0}
    assert margins[0, 0].share < 1


def test_a_network_that_sees_everything_is_reported(shifted: dict[tuple[int, int], Margin]) -> None:
    bad = [replace(margin, within={1: 1.0, 2: 0.5 + margin.halo_px / 1000}) for margin in shifted.values()]
    choice = halo.choose(bad)
    assert not choice.met
    assert choice.halo == (56, 8)
    assert "no margin keeps 99.9%" in str(choice)


def test_the_rule_takes_the_worst_scale_then_overlap_then_share_then_ramp() -> None:
    def margin(halo_px: int, ramp_px: int, overlap_px: int, x1: float, x2: float) -> Margin:
        return Margin(halo_px, ramp_px, overlap_px, {1: x1, 2: x2}, {1: 0.0, 2: 0.0})

    failing, seam = margin(8, 16, 32, 1.0, 0.9989), margin(16, 0, 32, 1.0, 1.0)
    wide, narrow = margin(48, 16, 128, 1.0, 1.0), margin(32, 32, 96, 0.9995, 0.9991)
    better, longer = margin(40, 8, 96, 0.9999, 0.9992), margin(40, 16, 96, 0.9999, 0.9992)
    assert halo.choose([failing, seam, wide]).margin == wide
    assert halo.choose([failing, seam, wide, narrow]).margin == narrow
    assert halo.choose([failing, seam, wide, narrow, better, longer]).margin == longer
    with pytest.raises(ValueError, match="no margin with a ramp"):
        halo.choose([seam])


def test_the_worst_is_taken_scale_by_scale_and_not_pooled() -> None:
    def margins(first: float, x1: float, x2: float) -> list[Margin]:
        found = {1: x1, 2: x2}
        return [Margin(0, 8, 32, {1: first, 2: 1.0}, {1: 0.0, 2: 0.0}), Margin(8, 8, 32, found, found)]

    clean, noisy = margins(1.0, 0.9, 0.5), margins(0.7, 0.8, 0.6)
    expected = Margin(8, 8, 32, {1: 0.8, 2: 0.5}, {1: 0.9, 2: 0.6})
    assert halo.worst([clean, noisy]) == (noisy[0], expected)
    assert halo.worst([clean]) == tuple(clean)
    with pytest.raises(ValueError, match="no measurements"):
        halo.worst([])


@pytest.mark.parametrize(
    ("learnt", "needed"),
    [
        ([], 0),
        ([Degradations(noise=Noise(sigma=(0, 25)))], 0),  # it never strikes
        ([Degradations(noise=Noise(probability=0.01, sigma=(0, 25)))], 40),
        ([Degradations(jpeg=Jpeg(probability=1.0))], 0),  # changes nothing here: all is one grey
        ([Degradations(jpeg=Jpeg(probability=1.0)), Degradations(noise=Noise(probability=0.5))], 40),
    ],
)
def test_a_release_is_measured_on_what_it_was_trained_for(
    learnt: list[Degradations], needed: int, tmp_path: Path
) -> None:
    """A network that looks 40 px far where there is noise, and gives clean pictures back as they are."""
    Image.new("RGB", (300, 288), (128, 128, 128)).save(tmp_path / "grey.png")
    store = Store(find_all([tmp_path], smallest=32)[0], tmp_path, cache_bytes=0)
    choice = measure_halo(Heads(Shift(40, "replicate")), Stores(store, store), 1, learnt)  # type: ignore[arg-type]
    assert choice is not None
    assert choice.met
    assert choice.margin.halo_px == needed


def test_photos_too_small_are_not_measured_on(tmp_path: Path) -> None:
    Image.new("RGB", (300, 280)).save(tmp_path / "small.png")
    store = Store(find_all([tmp_path], smallest=32)[0], tmp_path, cache_bytes=0)
    assert measure_halo(Heads(Local()), Stores(store, store), 1, []) is None  # type: ignore[arg-type]


def test_every_margin_can_stand_on_a_card() -> None:
    assert all(ours + ramp <= MAX_MARGIN_PX for ours, ramp in halo.MARGINS_PX)
    assert {(0, 0), (32, 32), (48, 16), (64, 0)} <= set(halo.MARGINS_PX)


@pytest.mark.parametrize(("halo_px", "ramp_px", "scale"), [(32, 32, 1), (40, 16, 2), (0, 8, 4)])
def test_the_blend_is_that_of_the_tiles(halo_px: int, ramp_px: int, scale: int) -> None:
    step = TILE_PX - 2 * halo_px - ramp_px
    axis = Axis(TILE_PX + 2 * step, TILE_PX + 2 * step, TILE_PX, halo_px, (0, step, 2 * step))
    ours = halo.tile_weight(halo_px * scale, ramp_px * scale, TILE_PX * scale)
    torch.testing.assert_close(ours, torch.from_numpy(axis.weights(scale)[1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 256, 256), (1, 3, 288, 320), (1, 1, 288, 288), (1, 3, 300, 300)])
def test_photos_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a tile of 160 px in its middle"):
        halo.measure(Heads(Local()), [torch.zeros(shape)], tile_px=TILE_PX)


def test_no_photo_and_tiles_that_are_all_margin_are_refused() -> None:
    with pytest.raises(ValueError, match="not on none"):
        halo.measure(Heads(Local()), [], tile_px=TILE_PX)
    for tile_px in (128, 170):
        with pytest.raises(ValueError, match=f"a tile of {tile_px} px"):
            halo.measure(Heads(Local()), [torch.zeros(1, 3, 448, 448)], tile_px=tile_px)


def test_a_network_that_gives_no_numbers_is_refused() -> None:
    broken = Local()
    broken.kernel.fill_(torch.nan)
    with pytest.raises(WeightsError, match="result at x1 is not a number"):
        measured(broken)


def test_the_table_has_a_line_per_margin(shifted: dict[tuple[int, int], Margin]) -> None:
    lines = halo.table(list(shifted.values())).splitlines()
    assert len(lines) == 1 + len(halo.MARGINS_PX)
    assert "x1: off > 1/255" in lines[0]
    assert "x2: off > 1/255" in lines[0]
    assert lines[-1].split()[:3] == ["64", "0", "128"]
    assert len({len(line) for line in lines}) == 1
