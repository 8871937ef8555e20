"""The network by OpenVINO: the numbers are torch's, and where they are not, nobody gets them."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from srbatch.card import NetworkConfig
from srbatch.errors import DeviceError, ExitCode, OutOfMemory, UsageError
from srbatch.model import Model
from srbatch.network import SuperResolutionNet
from srbatch.options import Options
from srbatch.upscaling import openvino_engine, openvino_graph
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.openvino_engine import MOST_OFF, OpenVinoNetwork
from srbatch.upscaling.upscaler import Upscaler
from tests.cli.conftest import as_command
from tests.conftest import Originals, crop, sample

if find_spec("openvino") is None:  # looked for, not imported: the import is tested here
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def network() -> SuperResolutionNet:
    """Untrained, but with statistics and heads that matter: its residuals are of some hundredths."""
    torch.manual_seed(0)
    network = SuperResolutionNet(NetworkConfig("resnet18", features=8, refine_blocks=1)).eval()
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.startswith("heads") or ".block.conv2" in name:
            tensor.uniform_(-0.02, 0.02, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(-0.1, 0.2, generator=generator)
    return network


@pytest.fixture(scope="module")
def converted(network: SuperResolutionNet) -> OpenVinoNetwork:
    return OpenVinoNetwork(network, required=True)


def tiles(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def off(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


# ---- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 96, 64), (3, 64, 32), (2, 32, 160)], ids=str)
def test_fp32_is_torchs(
    network: SuperResolutionNet, converted: OpenVinoNetwork, scale: int, shape: tuple[int, int, int]
) -> None:
    x = tiles(shape[0], 3, *shape[1:])
    expected = network(x, scale)
    assert expected.std() > 0.01
    found = converted(x.contiguous(memory_format=torch.channels_last), scale)
    assert found.shape == expected.shape
    assert off(found, expected) < MOST_OFF / 10


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_bf16_is_as_near_to_fp32_as_torchs(
    network: SuperResolutionNet, converted: OpenVinoNetwork, scale: int
) -> None:
    x = tiles(2, 3, 64, 96)
    expected = network(x, scale)
    with torch.autocast("cpu", torch.bfloat16):
        found, half = converted(x, scale), network(x, scale).float()
    assert found.dtype is torch.float32
    assert off(found, expected) <= max(MOST_OFF, 3 * off(half, expected))


def test_a_network_that_replaces_is_torchs_too() -> None:
    torch.manual_seed(0)
    config = NetworkConfig("resnet18", 8, 1, stages=0, levels=4, decoder=16, replaces=True)
    network = SuperResolutionNet(config).eval().requires_grad_(False)
    head = network.heads[0]
    head.weight.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(0))
    x = tiles(2, 3, 64, 96)
    expected = network(x, 1)
    assert expected.std() > 0.01
    assert off(OpenVinoNetwork(network, required=True)(x, 1), expected) < MOST_OFF / 10


def test_shapes_and_heads_in_any_order(network: SuperResolutionNet, converted: OpenVinoNetwork) -> None:
    """Memory is shared between shapes and given back between heads; no result is that of an older one."""
    calls = [(4, 96), (1, 32), (4, 32), (2, 96), (4, 96), (4, 64), (1, 32), (1, 96)]
    kept = [(converted(tiles(1, 3, side, 64), scale), scale, side) for scale, side in calls]
    for found, scale, side in kept:
        assert off(found, network(tiles(1, 3, side, 64), scale)) < MOST_OFF / 10


def test_the_network_stays_as_it_was(network: SuperResolutionNet) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = network(tiles(1, 3, 32, 32), 4)
    engine = OpenVinoNetwork(network, required=True)
    with torch.inference_mode():
        engine(tiles(1, 3, 32, 32), 4)
    assert torch.equal(network(tiles(1, 3, 32, 32), 4), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# ---- whole photos ----------------------------------------------------------------------------------


def upscaler(network: nn.Module, **changes: Any) -> Upscaler:
    settings = {"halo": 8, "ramp": 16, "device": "cpu", "precision": "fp32", "tile": 96, **changes}
    return Upscaler(network, scales=(1, 2, 4), **settings)


def enlarge(engine: Upscaler, pixels: Pixels, scale: int) -> Pixels:
    size = (pixels.shape[0] * scale, pixels.shape[1] * scale)
    return np.concatenate(list(engine.enlarge(pixels, size)))


def check_alike(found: Pixels, by_torch: Pixels) -> None:
    assert found.shape == by_torch.shape
    difference = np.abs(found.astype(int) - by_torch.astype(int))
    assert (difference <= 1).mean() >= 0.999, f"differences by level: {np.bincount(difference.ravel())}"


def chosen(**options: Any) -> Upscaler:
    """What a run with these options works with."""
    return Model(Options(inputs=(Path("photos"),), out=Path("hi"), **options)).upscaler


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("scale", "batch"), [(1, 1), (2, 1), (4, 2)])
def test_a_photo_in_tiles_is_torchs(
    network: SuperResolutionNet, converted: OpenVinoNetwork, scale: int, batch: int, precision: str
) -> None:
    photo = np.ascontiguousarray(sample()[100:250, 200:380])
    by_torch = enlarge(upscaler(copy.deepcopy(network), batch=batch, precision=precision), photo, scale)
    engine = upscaler(converted, batch=batch, precision=precision)
    found = enlarge(engine, photo, scale)
    check_alike(found, by_torch)
    assert engine.engine == "openvino"


def test_a_photo_through_the_command(originals: Originals, tmp_path: Path) -> None:
    crop(60, 90).save(originals.folder / "a.png")
    originals.remember()
    out = tmp_path / "hi"
    result = as_command("upscale", originals.folder, "--scale", 4, "--out", out, "--engine", "openvino")
    assert result.code == ExitCode.DONE, result.err
    with Image.open(out / "a.png") as image:
        found = np.asarray(image)
    by_torch = enlarge(chosen(engine="torch", device="cpu"), np.asarray(crop(60, 90)), 4)
    check_alike(found, by_torch)


# ---- what can go wrong -----------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO forgets one of the operations."""
    monkeypatch.setattr(openvino_graph._Operations, "relu", lambda self, input: self._node(input))


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_numbers_than_torchs_end_the_run(network: SuperResolutionNet, precision: str) -> None:
    engine = upscaler(OpenVinoNetwork(network, required=True), precision=precision)
    with pytest.raises(DeviceError, match=rf"at x2 in {precision} is not torch's.*--engine torch"):
        enlarge(engine, sample()[:40, :40], 2)


@pytest.mark.usefixtures("broken")
def test_other_numbers_than_torchs_mean_torch_where_openvino_was_not_asked_for(
    network: SuperResolutionNet, caplog: pytest.LogCaptureFixture
) -> None:
    photo = np.ascontiguousarray(sample()[:120, :40])
    engine = upscaler(OpenVinoNetwork(copy.deepcopy(network), required=False))
    found = enlarge(engine, photo, 2)
    assert np.array_equal(found, enlarge(upscaler(copy.deepcopy(network)), photo, 2))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "going on with torch" in caplog.text
    assert engine.engine == "torch"


class Unknown(nn.Module):
    """Asks for an operation that has no translation."""

    def forward(self, x: Tensor, scale: int) -> Tensor:
        return torch.sigmoid(x)


def test_an_operation_without_translation_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"no translation of sigmoid.*--engine torch"):
        OpenVinoNetwork(Unknown(), required=True)(tiles(1, 3, 32, 32), 1)


def test_numbers_out_of_range_are_done_again_in_fp32(
    network: SuperResolutionNet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = OpenVinoNetwork(network, required=True)
    photo = np.ascontiguousarray(sample()[:120, :150])
    expected = enlarge(upscaler(engine), photo, 2)
    run: Callable[..., Tensor] = engine._run

    def overflowing(request: Any, x: Tensor, scale: int) -> Tensor:
        result = run(request, x, scale)
        return result.fill_(torch.inf) if torch.is_autocast_enabled("cpu") and x.shape[3] == 96 else result

    monkeypatch.setattr(engine, "_run", overflowing)
    assert np.array_equal(enlarge(upscaler(engine, precision="bf16"), photo, 2), expected)
    assert "again in fp32" in caplog.text


def test_without_memory_the_photo_starts_again_with_smaller_tiles(
    network: SuperResolutionNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoNetwork(network, required=True)
    photo = np.ascontiguousarray(sample()[:200, :150])
    expected = enlarge(upscaler(engine), photo, 2)
    request = engine._requests[2, "fp32"]

    class Short:
        """Has no memory for larger tiles."""

        def __getattr__(self, name: str) -> Any:
            return getattr(request, name)

        def wait(self) -> None:
            request.wait()
            if request.get_input_tensor().shape[2] > 96:
                raise RuntimeError("Exception from node.cpp:794:\nFailed to allocate 52 bytes of memory")

    monkeypatch.setitem(engine._requests, (2, "fp32"), Short())
    large = upscaler(engine, tile=192)
    with pytest.raises(OutOfMemory):
        enlarge(large, photo, 2)
    assert large.shrink()
    assert np.array_equal(enlarge(large, photo, 2), expected)


def test_a_request_that_does_nothing_leaves_no_numbers(
    network: SuperResolutionNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never those of an earlier tile, which OpenVINO's memory may still hold."""
    engine = OpenVinoNetwork(network, required=True)
    engine(tiles(1, 3, 32, 32), 1)

    class Idle:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

    monkeypatch.setitem(engine._requests, (1, "fp32"), Idle())
    monkeypatch.setattr(engine, "_last", None)
    assert engine(tiles(1, 3, 32, 32), 1).isnan().all()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no alternate stacks")
@pytest.mark.parametrize("freed", ["by another thread", "before a younger one"])
def test_a_network_that_is_gone_leaves_a_process_that_bears_signals(freed: str) -> None:
    """In a process of its own: the one that fails this crashes."""
    program = """
import gc, signal, sys, threading
import torch
from torch import nn
from srbatch.upscaling.openvino_engine import OpenVinoNetwork

class Double(nn.Module):
    def forward(self, x, scale):
        return x + x

def network():
    engine = OpenVinoNetwork(Double(), required=True)
    engine(torch.zeros(1, 3, 32, 32), 1)
    return [engine]

def free(holder):
    holder.clear()
    gc.collect()

caught = []
signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
old = network()
if sys.argv[1] == "by another thread":
    thread = threading.Thread(target=free, args=(old,))
    thread.start()
    thread.join()
else:
    young = network()
    free(old)
    free(young)
signal.raise_signal(signal.SIGTERM)
assert caught == [signal.SIGTERM]
"""
    subprocess.run([sys.executable, "-c", program, freed], check=True, timeout=100)


# ---- the choice ------------------------------------------------------------------------------------


def test_a_cpu_has_openvino_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert chosen(device="cpu").engine == "openvino"
    assert chosen(device="cpu", engine="torch").engine == "torch"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")  # where nobody has measured
    assert chosen(device="cpu").engine == "torch"
    assert chosen(device="cpu", engine="openvino").engine == "openvino"


def test_openvino_means_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert chosen(engine="openvino").device == torch.device("cpu")


def test_without_the_library(network: SuperResolutionNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    uncached = openvino_graph.library.__wrapped__
    monkeypatch.setattr(openvino_engine, "library", uncached)
    with pytest.raises(UsageError, match=r"--engine openvino: .*pip install 'srbatch\[openvino\]'"):
        OpenVinoNetwork(network, required=True)
    assert chosen(device="cpu").engine == "torch"


def test_openvino_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """Where it does, it first makes a folder in the user's home."""
    program = (
        "import sys; from srbatch.upscaling import openvino_engine as e; from torch import nn;"
        " e.is_preferred(); e.OpenVinoNetwork(nn.Identity(), required=True);"
        " assert 'openvino' in sys.modules; assert 'openvino_telemetry' not in sys.modules"
    )
    outside_ci = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=outside_ci | home, check=True, timeout=100)
    assert not list(tmp_path.iterdir())
