"""The benchmarks that are run by hand load and tell what they measure; what they compare with is sound."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.bench import peers, report


@pytest.mark.parametrize(
    "name",
    ["engines", "folder", "fuzz", "ledger_size", "ledger_threads", "memory", "network", "rerun"],
)
def test_a_benchmark_tells_what_it_measures(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = importlib.import_module(f"tests.bench.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--json FILE" in said
    assert f"python -m tests.bench.{name}" in said


def test_a_peer_puts_its_tiles_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "TILE_PX", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 45, 3), np.uint8)

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(peers.SCALE, 2).repeat_interleave(peers.SCALE, 3)

    enlarge = peers.by_network(nearest, torch.device("cpu"), torch.float32)
    expected = pixels.repeat(peers.SCALE, axis=0).repeat(peers.SCALE, axis=1)
    np.testing.assert_array_equal(np.asarray(enlarge(Image.fromarray(pixels))), expected)


@torch.inference_mode()
def test_the_peers_enlarge_four_times() -> None:
    x = torch.rand(1, 3, 9, 12)
    network = peers.RRDBNet(blocks=1, width=8, growth=4)
    assert network(x).shape == (1, 3, 36, 48)


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert report.table(["", "s"], [["a long name", 1234.5], ["b", None]]).splitlines() == [
        "                s",
        "a long name  1234",
        "b               -",
    ]
