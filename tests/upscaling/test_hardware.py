"""What is said where PyTorch leaves a GPU alone."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from srbatch.upscaling import hardware


@pytest.mark.parametrize(
    ("built_for", "driver", "told"),
    [(None, "/usr/bin/nvidia-smi", True), ("13.0", "/usr/bin/nvidia-smi", False), (None, None, False)],
)
def test_a_pytorch_without_cuda_beside_an_nvidia_driver_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    built_for: str | None,
    driver: str | None,
    told: bool,
) -> None:
    hardware._tell_of_unused_gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(shutil, "which", lambda _: driver)
    with caplog.at_level(logging.WARNING, logger="srbatch"):
        for _ in range(2):
            assert hardware.pick_device("auto").type in ("cpu", "mps")
    hardware._tell_of_unused_gpu.cache_clear()
    assert ["without CUDA" in record.message for record in caplog.records] == [True] * told
