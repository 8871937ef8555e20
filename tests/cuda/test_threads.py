"""Threads that share a CUDA device, and the command over many photos."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srbatch import weights
from srbatch.card import Card
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.devices import Devices
from srbatch.upscaling.upscaler import Upscaler
from tests.cuda.conftest import (
    DEVICE,
    NEEDS_CUDA,
    ROOT,
    Lagging,
    ask,
    assert_close,
    enlarge,
    noise,
    photograph,
    small_network,
    times,
    upscaler,
)
from tests.networks import Local

pytestmark = NEEDS_CUDA


# ---- threads ---------------------------------------------------------------------------------------


def test_two_threads_on_one_device_give_what_each_gives_alone() -> None:
    pictures = [np.ascontiguousarray(photograph()[top : top + 200, :340]) for top in (0, 150, 300)]

    network = Lagging(small_network())
    engines = [upscaler(network, precision="bf16", tile=160, batch=batch) for batch in (2, 4)]
    both = threading.Barrier(2)

    def done(engine: Upscaler, begin: Callable[[], Any] = lambda: None) -> Pixels:
        begin()
        return np.stack([enlarge(engine, pixels, (400, 680)) for pixels in pictures])

    alone = [done(engine) for engine in engines]
    with ThreadPoolExecutor(2) as threads:
        together = threads.map(lambda engine: done(engine, both.wait), engines)
        for got, expected in zip(together, alone, strict=True):
            assert np.array_equal(got, expected)


def test_many_photos_through_the_devices_come_out_as_each_alone() -> None:
    engine = upscaler(Lagging(Local()), precision="bf16", batch=1)
    sizes = [(60, 70), (300, 200), (96, 96), (150, 400), (20, 30), (250, 90)] * 2
    pictures = [noise(*size, 3, seed=seed) for seed, size in enumerate(sizes)]
    expected = [enlarge(engine, pixels, times(pixels, 4)) for pixels in pictures]

    def result(asked: Any) -> Pixels:
        with asked:
            return np.concatenate(list(asked.bands(lambda: None)))

    with Devices(lambda: [engine]) as made, ThreadPoolExecutor(4) as threads:
        asked = [ask(made, pixels) for pixels in pictures]
        for got, whole in zip(threads.map(result, asked), expected, strict=True):
            assert np.array_equal(got, whole)


# ---- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, network = tmp_path_factory.mktemp("model") / "small.safetensors", small_network()
    card = Card("small", "1", "Random.", "none", network.config, (1, 2, 4), halo_px=16, ramp_px=16)
    weights.save(path, network, card, "int8")
    return path


def test_the_command_gives_the_same_files_whatever_is_in_hand_at_once(
    model_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        part = photograph()[60 * number :][:90, 40 * number :][:, :110]
        Image.fromarray(part).convert(["RGB", "L", "RGBA"][number % 3]).save(folder / f"{number}.png")
    Image.fromarray(photograph()[:300, :440]).save(folder / "large.tif")
    alone = _command(folder, tmp_path / "alone", model_file, "--workers", "1", "--device", "cuda")
    at_once = _command(folder, tmp_path / "at once", model_file, "--workers", "4")  # auto is CUDA here
    assert len(alone) == 6
    assert at_once == alone
    engine = upscaler(weights.load(model_file).network, halo=16, ramp=16, tile=128, batch=1, precision="bf16")
    with Image.open(tmp_path / "alone" / "large.tif") as image:
        assert_close(np.asarray(image), enlarge(engine, np.asarray(photograph()[:300, :440]), (600, 880)))


def _command(folder: Path, out: Path, model: Path, *flags: str) -> dict[str, str]:
    """Run it with tiles of one size, whose batches do not depend on what waits; hashes of its files."""
    report = out.with_suffix(".json")
    command = [sys.executable, "-m", "srbatch", "upscale", folder, "--scale", "2", "--out", out]
    command += ["--model", model, "--precision", "bf16", "--tile", "128", "--batch", "1", "--report", report]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert {record["status"] for record in json.loads(report.read_text())} == {"done"}
    ledger = sqlite3.connect(out / ".srbatch" / "ledger.sqlite")
    details = [json.loads(text) for (text,) in ledger.execute("SELECT details FROM photos")]
    ledger.close()
    assert {(found["device"].split(":")[0], found["precision"]) for found in details} == {(DEVICE, "bf16")}
    files = (path for path in out.rglob("*.*") if path.is_file() and ".srbatch" not in path.parts)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
