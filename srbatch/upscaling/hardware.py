"""Which devices there are, what they compute natively, and what their errors mean."""

from __future__ import annotations

import functools
import logging
import shutil
import time

import torch
from torch.nn import functional as F

from srbatch.errors import DeviceError, UsageError
from srbatch.limits import available_memory

log = logging.getLogger(__name__)

_KINDS = ("cpu", "cuda", "mps")
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",  # CUDA's own, for pinned memory
    "ALLOC_FAILED",  # cuBLAS
    "unable to find an engine",  # cuDNN without room for a workspace
)
"""What is said where memory is short."""


def pick_devices(names: str) -> list[torch.device]:
    """Each of the devices whose names stand between commas, or for ``all`` every CUDA device there is.

    Raises:
        DeviceError: one does not exist, or is named twice.
    """
    if names == "all":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())] or [
            pick_device("auto")
        ]
    devices = [pick_device(name.strip()) for name in names.split(",")]
    places = {(device.type, device.index or 0) for device in devices}
    if len(places) < len(devices):
        raise DeviceError(f"--device {names}: a device is named twice")
    return devices


def pick_device(name: str) -> torch.device:
    """The device of that name, or the fastest there is for ``auto``.

    Raises:
        DeviceError: there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        _tell_of_unused_gpu()
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"--device {name}: not a device; auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name}: there is none here; {torch.cuda.device_count()} CUDA device(s) found"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"--device {name}: there is none here")
    if device.type not in _KINDS:
        raise DeviceError(f"--device {name}: only cpu, cuda and mps are supported")
    return device


@functools.cache
def _tell_of_unused_gpu() -> None:
    """Say, once, that PyTorch cannot use the GPU: for Windows, PyPI has it without CUDA."""
    built_for = (torch.version.cuda, torch.version.hip, getattr(torch.version, "xpu", None))
    if not any(built_for) and shutil.which("nvidia-smi"):
        log.warning(
            "there seems to be an NVIDIA GPU, but the installed PyTorch was built without CUDA, so the CPU is"
            " used; pytorch.org/get-started says how to install the other one"
        )


def pick_precision(name: str, device: torch.device) -> str:
    """The precision of that name, or for ``auto`` the fastest that the device computes natively.

    Where a CPU's instructions do not tell, that is measured, once in a process.

    Raises:
        UsageError: the device cannot do it.
    """
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: a CPU has no fast half precision; use bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "mps":
        return "fp16"
    return "bf16" if _cpu_is_faster_in_bf16() else "fp32"


@functools.cache
def _cpu_is_faster_in_bf16() -> bool:
    if _torch_sees("_is_amx_tile_supported"):
        return True
    # AVX512_BF16 has twice the rate of fp32 on some processors and less than its rate on others: a Xeon whose
    # AMX a hypervisor hides took 1.3 times as long for x4. Without these instructions bf16 is emulated.
    return _torch_sees("_is_avx512_bf16_supported") and _is_clearly_faster_in_bf16()


def _torch_sees(probe: str) -> bool:
    # Torch has no public names for these.
    function = getattr(torch.cpu, probe, None)
    return function is not None and bool(function())


def _is_clearly_faster_in_bf16() -> bool:
    """Whether the most frequent convolution is; where it hardly is, fp32's exactness is worth more."""
    return 1.2 * _convolution_seconds(torch.bfloat16) < _convolution_seconds(torch.float32)


@torch.inference_mode()
def _convolution_seconds(kind: torch.dtype) -> float:
    """Of a 3 x 3 convolution, 64 channels, 64 x 64 px: the shortest of some, as other programs may run."""
    picture, weight = (
        torch.ones(shape, dtype=kind).to(memory_format=torch.channels_last)
        for shape in ((1, 64, 64, 64), (64, 64, 3, 3))
    )
    seconds = []
    for _ in range(8):
        begin = time.perf_counter()
        F.conv2d(picture, weight, padding=1)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def free_bytes(device: torch.device) -> int:
    """Memory that nobody uses now, on the device or, for the CPU and what shares its memory, here."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def means_out_of_memory(error: RuntimeError) -> bool:
    """Whether it is that, although it is no OutOfMemoryError, which torch raises on CUDA alone."""
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def device_is_lost(error: RuntimeError) -> bool:
    """Whether the device failed, so that no later call to it can succeed."""
    accelerator_error = getattr(torch, "AcceleratorError", None)  # from torch 2.8 on
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return str(error).startswith("CUDA error")
