"""The network on the CPU by OpenVINO, several times as fast as by torch; an optional library.

Its results are not taken on trust: before a head gives its first tile, they are compared with torch's.
"""

from __future__ import annotations

import functools
import logging
import platform
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from srbatch.errors import DeviceError, UsageError
from srbatch.network import SuperResolutionNet
from srbatch.upscaling.openvino_graph import convert, library

if TYPE_CHECKING:
    from openvino import InferRequest

log = logging.getLogger(__name__)

MOST_OFF = 0.25 / 255
"""How far a result in fp32 may be from torch's, in [0, 1]: a quarter of a level."""
_BF16_SLACK = 3.0
"""How many times as far from fp32 as torch's bf16 OpenVINO's may be; of both, the worst pixel by chance."""
_STRIDE = SuperResolutionNet.stride
_HINTS = {"fp32": "f32", "bf16": "bf16"}
"""What OpenVINO calls the precisions."""


def is_preferred() -> bool:
    """Whether OpenVINO is there and loads, on a kind of processor where it was measured to be the faster."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        library()
    except ImportError:
        return False
    return True


@functools.cache
def _core() -> Any:
    """The one ``Core`` of this process, which lives as long as it does.

    The thread that first compiles gets an alternate stack for signals from OpenVINO, which unmaps it with the
    ``Core``. Where that happens in another thread, or while a younger ``Core`` lives, the thread is left with
    a stack that is gone, and the next signal with a handler in Python, such as Ctrl-C, is a crash.
    """
    return library().Core()


class OpenVinoNetwork(nn.Module):
    """Has the call of the ``SuperResolutionNet`` that it is made from, and its way to say the precision:

    bf16 within ``torch.autocast``, fp32 without. Not to be called from two threads at once.

    Each head is compiled when it is first asked for, in each precision, and its result compared with torch's.
    """

    def __init__(self, network: nn.Module, *, required: bool) -> None:
        """``network`` is in eval mode and on the CPU; its weights are shared, not copied.

        Where OpenVINO fails the comparison, torch goes on with a warning, unless OpenVINO is ``required``.

        Raises:
            UsageError: OpenVINO is not installed, or does not load.
        """
        super().__init__()
        try:
            library()
        except ImportError as error:
            raise UsageError(
                f"--engine openvino: its library cannot be loaded ({error}): pip install 'srbatch[openvino]'"
            ) from error
        self._torch = (network,)  # hidden from .to(), which would copy the weights into another layout
        self._required = required
        self._failed = False
        self._requests: dict[tuple[int, str], InferRequest] = {}
        self._last: InferRequest | None = None

    @property
    def engine(self) -> str:
        """What the tiles go through: ``openvino``, or ``torch`` after a failed comparison."""
        return "torch" if self._failed else "openvino"

    def forward(self, x: Tensor, scale: int) -> Tensor:
        """Return the residual in fp32, (B, 3, H * scale, W * scale), for ``x`` (B, 3, H, W) in fp32.

        Raises:
            DeviceError: OpenVINO cannot run the network, or its result is not torch's.
            MemoryError: no memory.
        """
        precision = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        if not self._failed:
            try:
                return self._run(self._request(scale, precision), x, scale)
            except DeviceError as error:
                if self._required:
                    raise
                log.warning("%s; going on with torch", error)
                self._failed, self._last = True, None
                self._requests.clear()
                self._torch[0].to(memory_format=torch.channels_last)
        result: Tensor = self._torch[0](x, scale)
        return result

    def _request(self, scale: int, precision: str) -> InferRequest:
        """What runs this head in this precision, checked; the memory of the one before it is given back."""
        key = (scale, precision)
        request = self._requests.get(key)
        if request is None:
            request = self._compiled(scale, precision)
            self._check(request, scale, precision)
            self._requests[key] = request
        if self._last is not None and self._last is not request:
            self._last.get_compiled_model().release_memory()
        self._last = request
        return request

    def _compiled(self, scale: int, precision: str) -> InferRequest:
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two pinned programs would share one core and leave others idle
        }
        try:
            compiled = _core().compile_model(convert(self._torch[0], scale), "CPU", settings)
            return compiled.create_infer_request()
        except RuntimeError as error:
            raise DeviceError(
                f"OpenVINO cannot compile the network ({_last_line(error)}); use --engine torch"
            ) from error

    def _run(self, request: InferRequest, x: Tensor, scale: int) -> Tensor:
        array = library().Tensor
        # Called synchronously, OpenVINO 2026.4 says nothing where memory runs out, and leaves the result of
        # an earlier tile. Called asynchronously it raises; should it not, the result holds no numbers.
        x = x.contiguous()
        result = x.new_full((x.shape[0], 3, x.shape[2] * scale, x.shape[3] * scale), torch.nan)
        request.set_input_tensor(array(x.numpy(), shared_memory=True))
        request.set_output_tensor(array(result.numpy(), shared_memory=True))
        try:
            request.start_async()
            request.wait()
        except RuntimeError as error:
            # It has no type for it; and a network that has run before fails for nothing else.
            log.warning("OpenVINO: %s", _last_line(error))
            request.get_compiled_model().release_memory()
            raise MemoryError from error
        return result

    def _check(self, request: InferRequest, scale: int, precision: str) -> None:
        """Compare with torch on two tiles.

        Raises:
            DeviceError: they differ by more than rounding explains.
        """
        for tile in _check_tiles():
            exact = self._by_torch(tile, scale, "fp32")
            allowed = MOST_OFF
            if precision == "bf16":
                allowed = max(allowed, _BF16_SLACK * _distance(self._by_torch(tile, scale, "bf16"), exact))
            found = _distance(self._run(request, tile, scale), exact)
            log.debug("OpenVINO at x%d in %s is off by %.2g, allowed %.2g", scale, precision, found, allowed)
            if not found <= allowed:  # also where it is not a number
                raise DeviceError(
                    f"OpenVINO's result at x{scale} in {precision} is not torch's: it is off by"
                    f" {found * 255:.2g}/255, and {allowed * 255:.2g}/255 is allowed; use --engine torch"
                )

    @torch.inference_mode()
    def _by_torch(self, tile: Tensor, scale: int, precision: str) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            result: Tensor = self._torch[0](tile, scale)
        return result.float()


def _check_tiles() -> tuple[Tensor, Tensor]:
    """Gradients along both axes and noise, (1, 3, 64, 64), the same each time; and the middle of it.

    The smallest tile is one pixel in the middle of the network, where libraries take other ways: in fp32
    OpenVINO 2025.2 was off there by 0.28/255, and in larger tiles by nothing to speak of.
    """
    ramp = torch.linspace(0, 1, 2 * _STRIDE)
    across, down = ramp.expand(len(ramp), -1), ramp[:, None].expand(-1, len(ramp))
    smooth = torch.stack([across, down, 1 - (across + down) / 2])
    noise = torch.rand(smooth.shape, generator=torch.Generator().manual_seed(0))
    tile, middle = torch.where(across > 0.5, noise, smooth)[None], slice(_STRIDE // 2, -_STRIDE // 2)
    return tile, tile[:, :, middle, middle]


def _distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def _last_line(error: RuntimeError) -> str:
    """OpenVINO's messages begin with places in its source; what happened comes last."""
    return (str(error).strip().splitlines() or ["no reason given"])[-1]
