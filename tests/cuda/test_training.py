"""Training on a CUDA device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from srbatch import weights
from srbatch.errors import Interrupted
from srbatch.network import SuperResolutionNet
from tests.cuda.conftest import DEVICE, NEEDS_CUDA, assert_close, enlarge, photograph, upscaler
from tests.networks import Nothing

if TYPE_CHECKING:  # fastai takes seconds to import, and here there is mostly no device to train on
    from trainer.config import Config


pytestmark = NEEDS_CUDA


@dataclass
class Trained:
    """A run that was never stopped."""

    config: Config
    photos: Path
    path: Path
    peak: int
    """Bytes that torch had on the device."""
    measured_on: list[str] = field(default_factory=list)
    """Devices of networks whose halo was measured."""


def configuration(folder: Path, **data: Any) -> Config:
    """Two phases of a few steps: restoration, then x2 with features and added-up gradients."""
    from trainer import reading

    phase = {"size": 32, "scale": 1, "samples_per_epoch": 6, "batch": 2, "lr": 1e-4, "epochs": 2}
    grown = {"size": 64, "scale": 2, "samples_per_epoch": 8, "accumulate": 2, "loss": "seen", "epochs": 1}
    return reading.parse(
        {
            "network": {"encoder": "resnet18", "features": 4, "refine_blocks": 0},
            "start": {"encoder": "random"},
            "data": {"valid_percent": 50.0, "valid_crops": 2, "workers": 0, **data},
            "losses": {
                "default": {"pixel": 1.0},
                "seen": {"pixel": 1.0, "layers": {"relu2_2": 1.0}, "features": 0.1, "gram": 0.1},
            },
            "vgg_weights": str(folder / "vgg.safetensors"),
            "run": {"precision": "bf16", "panel_photos": 1, "log_every": 1, "device": DEVICE},
            "release": {"storage": "fp32", "name": "tiny"},
            "phases": [{"name": "one", **phase}, {"name": "two", **phase, **grown}],
        },
        "test",
    )


def train(config: Config, photos: Path, out: Path) -> Path:
    from trainer import run

    return run.train(config, (photos,), out, say=lambda _: None)


@pytest.fixture(scope="module")
def repeatable() -> Iterator[None]:
    """cuDNN as far as it repeats itself."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def trained(repeatable: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import safetensors.torch

    from trainer.exporting import halo
    from trainer.losses import Vgg16

    folder = tmp_path_factory.mktemp("training")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        safetensors.torch.save_file(Vgg16(("relu2_2",)).state_dict(), folder / "vgg.safetensors")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(10):  # by these names, some are for training and some for validation
        Image.fromarray(photograph()[20 * number :][:300, 20 * number :][:, :300]).save(
            photos / f"{number}.png"
        )
    found = Trained(configuration(folder, workers=2), photos, folder / "run" / "tiny.safetensors", peak=0)
    measure = halo.measure

    def noted(network: SuperResolutionNet, *arguments: Any, **named: Any) -> Any:
        found.measured_on.append(next(network.parameters()).device.type)
        return measure(network, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halo, "measure", noted)
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        assert train(found.config, photos, folder / "run") == found.path
        found.peak = torch.cuda.max_memory_allocated()
    return found


def test_a_run_ends_in_weights_that_srbatch_takes(trained: Trained) -> None:
    loaded = weights.load(trained.path)
    assert loaded.card.scales == (1, 2)
    assert loaded.card.training["hardware"] == torch.cuda.get_device_name()
    assert trained.peak > 100 << 20, "the network, its average and its moments were elsewhere"
    assert set(trained.measured_on) == {DEVICE}
    assert "within 1/255" in str(loaded.card.training["halo"])
    log = (trained.path.parent / "log.csv").read_text()
    for name in ("relu2_2", "gram_relu2_2", "psnr_x1", "psnr_x2"):
        assert f",{name}," in log
    assert "nan" not in log
    card, pixels = loaded.card, np.ascontiguousarray(photograph()[:200, :300])
    changes = {"scales": card.scales, "halo": card.halo_px, "ramp": card.ramp_px, "tile": 256}
    got, expected = (
        enlarge(upscaler(loaded.network, device=device, **changes), pixels, (400, 600))
        for device in (DEVICE, "cpu")
    )
    assert_close(got, expected, share=0.99, largest=4)
    assert not np.array_equal(expected, enlarge(upscaler(Nothing(), tile=256), pixels, (400, 600)))


def test_a_resumed_run_equals_one_that_was_never_stopped(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers, or where CUDA adds up in another order each time, the same way from the origin.

    Files are not compared: a card tells the seconds. Workers count for nothing.
    """
    from trainer import preparation
    from trainer.interruption import Interrupt
    from trainer.losses import SuperResolutionLoss

    forward, calls = SuperResolutionLoss.forward, [0]

    def stopped(self: SuperResolutionLoss, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 2:
            signal.raise_signal(signal.SIGTERM)
        return forward(self, *arguments)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SuperResolutionLoss, "forward", stopped)
        with pytest.raises(Interrupted):
            train(trained.config, trained.photos, out)
    assert calls[0] == 2
    alone = configuration(trained.path.parents[1], workers=0)
    got = weights.load(train(alone, trained.photos, out)).network.state_dict()
    expected = weights.load(trained.path).network.state_dict()
    assert got.keys() == expected.keys()
    if all(torch.equal(got[name], expected[name]) for name in got):
        return
    prepared = preparation.prepare(
        alone, (trained.photos,), tmp_path / "origin", out / "cache", Interrupt(), lambda _: None
    )
    origin = preparation.first_network(prepared).state_dict()
    assert _similarity(got, expected, origin) > 0.9, "without its optimiser it would be 0.76"


def _similarity(a: dict[str, Any], b: dict[str, Any], origin: dict[str, Any]) -> float:
    """Cosine of the angle between two ways from an origin."""
    names = [name for name in origin if origin[name].is_floating_point()]
    ways = [torch.cat([(end[n] - origin[n]).double().flatten() for n in names]) for end in (a, b)]
    return float(F.cosine_similarity(*ways, dim=0))


def test_a_rate_is_found(trained: Trained, tmp_path: Path) -> None:
    """fastai keeps network and optimiser in a file meanwhile, and puts both back on the device."""
    from trainer import run

    config = configuration(trained.path.parents[1])
    first = config.phases[0].model_copy(update={"lr": "find"})
    config = config.model_copy(update={"phases": (first, *config.phases[1:])})
    rate = run.find_rate(config, (trained.photos,), tmp_path, 0, say=lambda _: None)
    assert 0 < rate < 1
    assert (tmp_path / "lr-one.png").stat().st_size > 0


def test_weights_are_measured_with_the_figures_of_the_cpu(trained: Trained, tmp_path: Path) -> None:
    import safetensors.torch
    import torchvision

    from trainer.evaluation.evaluate import evaluate

    features = tmp_path / "densenet169.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        network = torchvision.models.densenet169(weights=None)
    safetensors.torch.save_file(network.state_dict(), features)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        Image.fromarray(photograph()[200 * number :][:160, 100:260]).save(data / f"{number}.png")
    ours, theirs = (
        evaluate(
            trained.path,
            data,
            scale=2,
            out=tmp_path / device,
            feature_weights=features,
            device=device,
            precision="fp32",
        )
        for device in (DEVICE, "cpu")
    )
    for got, expected in zip(ours.rows, theirs.rows, strict=True):
        assert (got.image, got.method) == (expected.image, expected.method)
        assert got.values == pytest.approx(expected.values, rel=2e-2, abs=2e-2)
