"""A network on one device: where it is, in which precision it is run, and whether its results are numbers.

Integers go to the device and come from it; floats exist only there. The bicubic base is computed in
fp32 and only the residual, which the network adds to it, in half precision: bf16 keeps 8 bits, and
a sky would show them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from srbatch.errors import DeviceError, OutOfMemory, WrongOutput
from srbatch.limits import cores
from srbatch.network import SuperResolutionNet
from srbatch.upscaling import allocator, ensemble, transfer
from srbatch.upscaling.arrays import Pixels, to_floats
from srbatch.upscaling.blockwise import BlockwiseNet
from srbatch.upscaling.hardware import device_is_lost, means_out_of_memory, pick_device, pick_precision

log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_KEPT_BYTES = 64 * 2**20
"""On a CPU, at a tile of 512 px: the body's feature maps in bf16 and x4's picture in fp32 have 52 MB."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles that were sent through the network."""

    colour: torch.Tensor
    """(B, 3, h, w) in [0, 1], what the network was given."""
    residual: torch.Tensor
    """(B, 3, h * head, w * head)."""
    finite: transfer.HostCopy
    """Of each tile, whether all of its residual is."""
    head: int
    is_grey: bool


class NetworkOnDevice:
    """Enlarges tiles of one size with a network that stays on its device."""

    def __init__(
        self, network: torch.nn.Module, *, device: str, precision: str, strength: float, tta: bool
    ) -> None:
        """The network and its arguments are those of :class:`srbatch.upscaling.upscaler.Upscaler`.

        Raises:
            DeviceError: the device does not exist, or has no room for the network.
            UsageError: the device cannot do the precision.
        """
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.views = len(ensemble.VIEWS) if tta else 1
        """In which every tile is seen."""
        self._strength = strength
        if self.device.type == "cpu":
            allocator.keep_freed(_KEPT_BYTES)
            # Of a container's share of the cores torch knows nothing.
            torch.set_num_threads(min(torch.get_num_threads(), cores()))
        with self._set_up():
            network = network.eval().to(self.device).to(memory_format=torch.channels_last)
            self._in_full = _as_run_on(self.device, network)
            if self.device.type == "cuda":
                torch.backends.cudnn.allow_tf32 = False  # fp32 is asked for where half precision will not do
            self._in_half = _for_half_precision(self._in_full, self.device, self.precision)

    @property
    def network(self) -> torch.nn.Module:
        """What is run in the precision: the network given, or the same by blocks or fused kernels."""
        return self._in_half

    @property
    def engine(self) -> str:
        """What the network is run by: ``torch``, unless the network says that it is something else."""
        return str(getattr(self._in_half, "engine", "torch"))

    @property
    def by_blocks(self) -> bool:
        """Whether it is run a few rows at a time, in less memory."""
        return isinstance(self._in_full, BlockwiseNet)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """For all calls of one thread: on CUDA, its work does not queue behind that of others."""
        if self.device.type != "cuda":
            yield
            return
        with self._set_up():
            torch.cuda.synchronize(self.device)  # the weights are there
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch's has no types
        with torch.cuda.stream(stream):
            yield

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what torch raises into our errors."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory from error
        except RuntimeError as error:
            if means_out_of_memory(error):
                raise OutOfMemory from error
            if device_is_lost(error):
                raise DeviceError(f"{self.device} failed: {str(error).splitlines()[0]}") from error
            raise

    @contextmanager
    def _set_up(self) -> Iterator[None]:
        """As :meth:`explained`; before the first photo there are no smaller tiles to go on with."""
        try:
            with self.explained():
                yield
        except OutOfMemory as error:
            raise DeviceError(
                f"{self.device}: its free memory does not hold the network; close what else uses it, or use"
                " --device cpu"
            ) from error

    @torch.inference_mode()
    def begin(self, tiles: Pixels, head: int, pause: Callable[[], None] = lambda: None) -> Batch:
        """Send integer tiles (B, h, w, C) through the network; ``pause`` is called between two views."""
        x = to_floats(tiles, self.device).permute(0, 3, 1, 2)
        colour = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        residual = self._residual(colour, head, self.precision, pause)
        finite = transfer.HostCopy(torch.isfinite(residual).flatten(1).all(dim=1))
        return Batch(colour, residual, finite, head, is_grey=x.shape[1] == 1)

    @torch.inference_mode()
    def enlarged(self, batch: Batch) -> torch.Tensor:
        """The enlarged tiles (B, C, h * head, w * head), about [0, 1], of numbers only.

        Raises:
            WrongOutput: some are none even in fp32.
        """
        finite, residual = batch.finite.wait(), batch.residual
        if not finite.all():
            log.warning("numbers out of range in %s: %d tiles again in fp32", self.precision, (~finite).sum())
            again = (~finite).to(self.device)
            residual[again] = self._residual(batch.colour[again], batch.head, "fp32")
            if not torch.isfinite(residual).all():
                raise WrongOutput(
                    "the network's result is not a number, also in fp32; are its weights sound?"
                )
        # In place, as the pictures are large: of all tiles together, at x1 what the network was given itself.
        result = SuperResolutionNet.enlarge(batch.colour, batch.head).add_(residual, alpha=self._strength)
        return result.mean(dim=1, keepdim=True) if batch.is_grey else result

    def _residual(
        self, x: torch.Tensor, head: int, precision: str, pause: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        dtype = _DTYPES[precision]
        network = partial(_run, self._in_full if precision == "fp32" else self._in_half)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            if self.views > 1:
                return ensemble.averaged(network, x, head, pause)
            return network(x, head).float()


def _run(network: torch.nn.Module, x: torch.Tensor, head: int) -> torch.Tensor:
    """What the network returns, if that has the shape that it should have."""
    residual: torch.Tensor = network(x, head)
    expected = (*x.shape[:2], x.shape[2] * head, x.shape[3] * head)
    if residual.shape != expected:
        raise WrongOutput(f"the network returned {tuple(residual.shape)} where {expected} was due")
    return residual


def _as_run_on(device: torch.device, network: torch.nn.Module) -> torch.nn.Module:
    """Where torch computes on the CPU, the network by blocks; otherwise itself."""
    if device.type == "cpu" and isinstance(network, SuperResolutionNet):
        return BlockwiseNet(network)
    return network


def _for_half_precision(network: torch.nn.Module, device: torch.device, precision: str) -> torch.nn.Module:
    """The network with fused kernels, where there are any for it; otherwise itself."""
    if device.type != "cuda" or precision == "fp32" or not isinstance(network, SuperResolutionNet):
        return network
    try:
        from srbatch.upscaling import fused
    except ImportError:  # Triton is not everywhere where CUDA is
        return network
    return fused.fused(network, _DTYPES[precision]) or network
