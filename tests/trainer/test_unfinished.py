"""Weights of a run that is not at its end, out of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from srbatch import weights
from srbatch.errors import Interrupted, UsageError, WeightsError
from tests.trainer.trainings import TWO, Tiny, stop_at, train
from trainer import checkpoint
from trainer.checkpoint import State
from trainer.exporting.reexport import reexport

pytestmark = pytest.mark.usefixtures("thin_encoder", "learners_freed")


def exported(model: Path, out: Path, **others: Any) -> list[str]:
    return reexport(str(model), out, **{"onnx": False, "dtype": "fp32", "halo_photos": None, **others})


def test_a_run_gives_its_averaged_weights_at_any_time(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*TWO, degradations={"holes": {"probability": 0.5}})
    out, file = tmp_path / "run", tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        stop_at(patch, (1, 0, 1))
        with pytest.raises(Interrupted):
            train(config, photo_folder, out)
    said = exported(out / checkpoint.FILE, file)
    place = "in phase two, 2 of 2: 0 of 1 epochs and 1 steps of the next done"
    assert said[0].startswith(f"tiny {place}, ")
    assert "--halo-photos measures it" in said[1]
    made = weights.load(file)
    averages = checkpoint.averaged(checkpoint.read(out / checkpoint.FILE))
    assert all(torch.equal(tensor, averages[name]) for name, tensor in made.network.named_parameters())
    card = made.card
    assert (card.name, card.scales, card.metrics) == ("tiny", (2,), {})
    assert set(card.degradations) == {"downsampling", "holes"}
    assert card.training["checkpoint"] == place
    assert [phase["name"] for phase in card.training["config"]["phases"]] == ["one", "two"]
    expected = train(config, photo_folder, out)
    with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
        exported(out, file)
    exported(out, file, overwrite=True)
    made = weights.load(file)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in made.network.named_parameters())
    assert made.card.training["checkpoint"] == "at the end of phase two, 2 of 2"
    released = weights.read_card(out / "tiny.safetensors")
    assert made.card.metrics == released.metrics
    assert made.card.training["photos_sha256"] == released.training["photos_sha256"]


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match=r"checkpoint.pt: there is no such checkpoint"):
        exported(tmp_path, file)
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"other.pt cannot be read: "):
        exported(tmp_path / "other.pt", file)
    checkpoint.save(State({}), tmp_path)
    with pytest.raises(WeightsError, match=r"checkpoint.pt holds no run of this trainer"):
        exported(tmp_path, file)
    with pytest.raises(UsageError, match=r"export it to a .safetensors file, and that with --onnx"):
        exported(tmp_path, tmp_path / "onnx", onnx=True, dtype=None)
    assert not file.exists()
