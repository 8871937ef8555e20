"""Exports: round trips, the fall from int8 to fp16, nothing left of a file that is wrong, and ONNX."""

from __future__ import annotations

import copy
import dataclasses
import errno
import importlib.util
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from srbatch import weights
from srbatch.card import NetworkConfig
from srbatch.errors import DestinationError, UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.weights import Storage, Weights
from trainer.exporting import onnx_export, parity
from trainer.exporting.export import Exported, export
from trainer.exporting.onnx_export import OnnxExport, export_onnx

CONFIG = NetworkConfig("resnet18", features=8, refine_blocks=1, stages=1)
RECORD: dict[str, Any] = {
    "name": "tiny",
    "version": "0.1",
    "description": "for tests",
    "licence": "CC0-1.0",
    "scales": (1, 2),
    "degradations": ("downsampling", "jpeg"),
    "training": {"samples": 12, "loss": {"pixel L1": 1.0}, "date": "2026-01-01"},
    "metrics": {"Set5 x2 PSNR-Y": 30.25},
    "halo": (32, 16),
}


@pytest.fixture(scope="module")
def network() -> SuperResolutionNet:
    """In training, with residuals of some size and batch norm as after some steps."""
    torch.manual_seed(0)
    network = SuperResolutionNet(CONFIG).train()
    with torch.no_grad():
        for head in network.heads.parameters():
            head.uniform_(-2e-4, 2e-4)
        for _ in range(3):
            network.residuals(torch.cat([p[..., :32, :64] for p in parity.pictures()]))
    return network


@pytest.fixture(scope="module")
def exported(network: SuperResolutionNet, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(network, tmp_path_factory.mktemp("int8") / "new" / "tiny.safetensors", **RECORD)


def disturb(loaded: Weights) -> Weights:
    """A copy whose last head is off by 0.5/255."""
    twin = SuperResolutionNet(loaded.card.config).eval().requires_grad_(False)
    twin.load_state_dict(loaded.network.state_dict())
    twin.heads[-1].bias += 0.5 / 255
    return dataclasses.replace(loaded, network=twin)


# ---- safetensors ------------------------------------------------------------------------------------------


def test_fp32_is_exact_and_leaves_the_network_as_it_is(network: SuperResolutionNet, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    done = export(network, tmp_path / "w.safetensors", **RECORD, storage="fp32")
    assert (done.storage, done.note, done.path) == ("fp32", "", tmp_path / "w.safetensors")
    assert done.parity == {1: 0.0, 2: 0.0}
    assert list(tmp_path.iterdir()) == [done.path]
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_fp16_of_one_head_that_learnt_to_fill_holes(network: SuperResolutionNet, tmp_path: Path) -> None:
    record = RECORD | {"degradations": ("downsampling", "holes"), "scales": (1,)}
    done = export(network, tmp_path / "w.safetensors", **record, storage="fp16")
    assert done.storage == "fp16"
    assert done.parity.keys() == {1}
    assert 0 < done.parity[1] <= parity.LIMIT
    card = weights.read_card(done.path)
    assert card.generative
    assert card.scales == (1,)


def test_int8_stands_under_its_name_and_says_what_it_is(
    network: SuperResolutionNet, exported: Exported
) -> None:
    assert exported.storage == "int8"
    assert re.fullmatch(
        r".*tiny\.safetensors: int8, x1 within 0\.\d+/255, x2 within 0\.\d+/255 of the network's pictures",
        str(exported),
    )
    assert 0 < max(exported.parity.values()) <= parity.LIMIT
    assert [path.name for path in exported.path.parent.iterdir()] == ["tiny.safetensors"]
    read = weights.load(exported.path)
    assert read.sha256 == exported.weights.sha256
    assert read.card == exported.weights.card
    assert read.card.degradations == ("downsampling", "jpeg")
    assert not read.card.generative
    assert (read.card.halo_px, read.card.ramp_px) == (32, 16)
    assert read.card.training == RECORD["training"]
    x = parity.pictures()[0]
    with torch.inference_mode():
        got, expected = read.network(x, 2), parity.reference(network)(x, 2)
    assert expected.abs().max() > 1 / 255
    assert parity.difference(got, expected) <= exported.parity[2]


def louder(network: SuperResolutionNet, factor: float) -> SuperResolutionNet:
    loud = copy.deepcopy(network)
    with torch.no_grad():
        for head in loud.heads.parameters():  # in fp32 in every file, so that differences grow with them
            head *= factor
    return loud


def test_where_int8_changes_pictures_small_convolutions_are_fp16(
    network: SuperResolutionNet, exported: Exported, tmp_path: Path
) -> None:
    loud = louder(network, 0.4 / max(exported.parity.values()))
    done = export(loud, tmp_path / "w.safetensors", **RECORD)
    assert done.storage == "int8"
    assert max(done.parity.values()) <= parity.LIMIT
    assert "int8 changes pictures by more than 0.25/255: x1 within" in done.note
    match = re.search(r"convolutions of fewer than ([\d,]+) weights are fp16", done.note)
    assert match
    smallest = int(match[1].replace(",", ""))
    stored = safetensors.torch.load_file(done.path)
    state = loud.state_dict()
    kinds = {
        tensor.dtype
        for name, tensor in stored.items()
        if tensor.ndim == 4 and not name.startswith("heads.") and state[name].numel() < smallest
    }
    assert kinds == {torch.float16}
    assert stored["body.encoder.layer4.0.conv1.weight"].dtype is torch.int8


def test_int8_that_changes_pictures_all_the_same_falls_to_fp16(
    network: SuperResolutionNet, exported: Exported, tmp_path: Path
) -> None:
    loud = louder(network, 2.5 / max(exported.parity.values()))
    done = export(loud, tmp_path / "w.safetensors", **RECORD)
    assert done.storage == "fp16"
    assert max(done.parity.values()) <= parity.LIMIT
    assert "int8 changes pictures by more than 0.25/255: x1 within" in done.note
    assert str(done).endswith(done.note)
    assert list(tmp_path.iterdir()) == [done.path]
    stored = weights.load(done.path).network.state_dict()["body.out.weight"]
    assert torch.equal(stored, loud.body.out.weight.half().float())


@pytest.mark.parametrize("storage", ["int8", "fp16"])
def test_where_fp16_changes_pictures_too_all_is_fp32(
    network: SuperResolutionNet, tmp_path: Path, storage: Storage
) -> None:
    halved = export(network, tmp_path / "halved.safetensors", **RECORD | {"storage": "fp16"})
    loud = louder(network, 2.5 * parity.LIMIT / max(halved.parity.values()))
    done = export(loud, tmp_path / "w.safetensors", **RECORD | {"storage": storage})
    assert done.storage == "fp32"
    assert max(done.parity.values()) <= parity.EXACT_LIMIT
    assert "fp16 changes pictures by more than 0.25/255: x1 within" in done.note
    stored = safetensors.torch.load_file(done.path)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_where_fp16_changes_pictures_a_little_small_convolutions_are_fp32(
    network: SuperResolutionNet, tmp_path: Path
) -> None:
    halved = export(network, tmp_path / "halved.safetensors", **RECORD | {"storage": "fp16"})
    loud = louder(network, 1.1 * parity.LIMIT / max(halved.parity.values()))
    done = export(loud, tmp_path / "w.safetensors", **RECORD | {"storage": "fp16"})
    assert done.storage == "fp16"
    assert max(done.parity.values()) <= parity.LIMIT
    match = re.search(r"convolutions of fewer than ([\d,]+) weights are fp32", done.note)
    assert match
    smallest = int(match[1].replace(",", ""))
    stored = safetensors.torch.load_file(done.path)
    for name, tensor in stored.items():
        if tensor.ndim == 4 and not name.startswith("heads."):
            assert (tensor.dtype is torch.float16) == (tensor.numel() >= smallest), name


def test_a_file_that_gives_other_pictures_is_not_kept(
    network: SuperResolutionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Callable[[Path], Weights] = weights.load
    monkeypatch.setattr(weights, "load", lambda path: disturb(load(path)))
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"old")
    with pytest.raises(WeightsError, match=r"w.safetensors was not written.*fp32 changes pictures by more"):
        export(network, out, **RECORD)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_stored_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    broken = SuperResolutionNet(CONFIG)
    with torch.no_grad():
        broken.body.out.weight[0, 0] = math.nan
    with pytest.raises(WeightsError, match=r"w.safetensors was not written: body.out.weight is not finite"):
        export(broken, tmp_path / "w.safetensors", **RECORD)
    with pytest.raises(WeightsError, match="not JSON serializable"):
        export(SuperResolutionNet(CONFIG), tmp_path / "w.safetensors", **RECORD | {"training": {"a": Path()}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not A Name"}, "name is 'Not A Name'"),
        ({"scales": (1, 8)}, "scales are"),
        ({"halo": (60, 16)}, "halo 60 px and ramp 16 px"),
    ],
)
def test_a_card_that_is_not_valid_is_refused(
    network: SuperResolutionNet, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export(network, tmp_path / "w.safetensors", **RECORD | change)
    with pytest.raises(UsageError, match=r"end in \.safetensors"):
        export(network, tmp_path / "w.pth", **RECORD)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(
    network: SuperResolutionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "w.safetensors"
    out.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DestinationError, match=r"w.safetensors cannot be written: No space left on device"):
        export(network, out, **RECORD)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_release_is_replaced_although_its_checksum_is_the_old_one(
    network: SuperResolutionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_released_folder", lambda: tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  tiny.safetensors\n")
    done = export(network, tmp_path / "tiny.safetensors", **RECORD, storage="fp32")
    assert weights.read_card(done.path).name == "tiny"


# ---- parity -----------------------------------------------------------------------------------------------


def test_pictures_are_the_same_every_time_and_look_like_photos() -> None:
    for first, second in zip(parity.pictures(), parity.pictures(), strict=True):
        assert torch.equal(first, second)
        assert first.shape[:2] == (1, 3)
        assert all(side % 64 == 32 for side in first.shape[2:])
        assert 0 <= first.min() < 0.2 < 0.8 < first.max() <= 1
        assert first.std() > 0.1


def test_a_difference_that_is_no_number_is_infinite() -> None:
    black = torch.zeros(1, 3, 4, 4)
    assert parity.difference(black + 0.1, black) == pytest.approx(25.5)
    assert parity.difference(black + math.nan, black) == math.inf


# ---- ONNX -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx_file(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    return export_onnx(exported.weights, 2, tmp_path_factory.mktemp("onnx") / "tiny-x2.onnx")


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 160), (1, 224, 96)])
def test_onnxruntime_gives_torchs_pictures_at_any_size(
    exported: Exported, onnx_file: OnnxExport, shape: tuple[int, int, int]
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file.path, providers=["CPUExecutionProvider"])
    B, H, W = shape
    x = torch.rand(B, 3, H, W, generator=torch.Generator().manual_seed(3))
    (got,) = session.run(None, {"x": x.numpy()})
    network = exported.weights.network
    with torch.inference_mode():
        expected = network.enlarge(x, 2) + network(x, 2)
    assert got.shape == (B, 3, 2 * H, 2 * W)
    np.testing.assert_allclose(got, expected.numpy(), atol=parity.EXACT_LIMIT / 255, rtol=0)


def test_the_onnx_file_says_what_it_is(exported: Exported, onnx_file: OnnxExport) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file.path, providers=["CPUExecutionProvider"])
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["batch", 3, "height", "width"])
    assert (y.name, y.type, y.shape) == ("y", "tensor(float)", ["batch", 3, "height * 2", "width * 2"])
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["name"] == "tiny"
    assert properties["scale"] == "2"
    assert properties["weights_sha256"] == exported.weights.sha256
    assert properties["generative"] == "false"
    assert "normalisation is inside" in properties["input"]
    assert onnx_file.parity <= parity.EXACT_LIMIT
    assert "tiny-x2.onnx: ONNX, x2 within" in str(onnx_file)
    assert list(onnx_file.path.parent.iterdir()) == [onnx_file.path]


def test_an_onnx_file_that_gives_other_pictures_is_not_kept(
    exported: Exported, onnx_file: OnnxExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    other = onnx.load(onnx_file.path)
    bias = next(tensor for tensor in other.graph.initializer if tensor.name.endswith("heads.1.bias"))
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name)
    )
    monkeypatch.setattr(onnx_export, "_convert", lambda enlarger: other)
    with pytest.raises(WeightsError, match=r"x2.onnx was not written: onnxruntime's pictures differ"):
        export_onnx(exported.weights, 2, tmp_path / "x2.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name)
    )
    with pytest.raises(UsageError, match="python -m pip install onnx onnxruntime onnxscript"):
        export_onnx(exported.weights, 2, tmp_path / "x2.onnx")


def test_a_torch_whose_exporter_fails_is_named(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    with pytest.raises(UsageError, match=r"ONNX needs torch 2\.7 or newer, and this is 2\.6\.0"):
        export_onnx(exported.weights, 2, tmp_path / "x2.onnx")
    assert list(tmp_path.iterdir()) == []


def test_scales_and_names_that_make_no_sense_are_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trained head for scale 4; it has 1, 2"):
        export_onnx(exported.weights, 4, tmp_path / "x4.onnx")
    with pytest.raises(UsageError, match=r"end in \.onnx"):
        export_onnx(exported.weights, 2, tmp_path / "x2.pb")
    assert list(tmp_path.iterdir()) == []
