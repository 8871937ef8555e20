"""A folder of small photographs and a training that takes seconds."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from srbatch import network
from tests.conftest import crop
from tests.networks import ThinEncoder
from trainer import reading
from trainer.config import Config


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Ten photos of 96 x 80 px; with half of them for validation, both sides have some."""
    folder = tmp_path / "training-photos"
    folder.mkdir()
    for number in range(10):
        crop(80, 96, top=20 * number, left=40 * number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def thin_encoder() -> Iterator[None]:
    """Networks have an encoder with an eighth of its channels, which makes a training three times as fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "ResNetEncoder", ThinEncoder)
        yield


@pytest.fixture
def learners_freed() -> Iterator[None]:
    """Learners are circles, which Python clears away late: what they hold would be left to later tests."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of a run that was never stopped, by name; filled by `tests.trainer.trainings.reference`."""
    return {"folder": tmp_path_factory.mktemp("uninterrupted")}


def phase(name: str, **others: Any) -> dict[str, Any]:
    """A phase of a few steps."""
    return {"name": name, "size": 32, "scale": 1, "samples_per_epoch": 4, "batch": 2, "lr": 1e-3, **others}


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """A configuration of the smallest network there is, with other values by section."""

    def build(*phases: dict[str, Any], **sections: Any) -> Config:
        data = {
            "network": {"encoder": "resnet18", "features": 4, "refine_blocks": 0},
            "start": {"encoder": "random"},
            "data": {"valid_percent": 50.0, "valid_crops": 2, "workers": 0},
            "run": {"precision": "fp32", "panel_photos": 1, "log_every": 1, "device": "cpu"},
            "release": {"storage": "fp32", "name": "tiny"},
            "phases": list(phases),
        }
        for section, values in sections.items():
            data[section] = {**data.get(section, {}), **values}
        return reading.parse(data, "test")

    return build
