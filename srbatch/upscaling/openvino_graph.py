"""From the network's ``forward`` to a graph of OpenVINO's.

``forward`` is run once in torch, on a tiny tile, and each operation that it asks for is noted as one of
OpenVINO's. That takes a tenth of a second where ``torch.export`` takes three, and batches, heights and widths
stay free.

OpenVINO reports to its makers that it was imported; here it is always imported without what does that.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from srbatch.network import SuperResolutionNet

if TYPE_CHECKING:
    from openvino import Model, Node, Output


@functools.cache
def library() -> Any:
    """OpenVINO, imported so that it sends nothing and makes no folder in the user's home.

    It counts its imports with a package of its own, and does without where that cannot be imported.

    Raises:
        ImportError: it is not installed, or does not load.
    """
    telemetry = "openvino_telemetry"
    with_it = sys.modules.get(telemetry)
    sys.modules[telemetry] = None  # type: ignore[assignment]  # for importlib: there is none
    try:
        import openvino
    finally:
        if with_it is None:
            del sys.modules[telemetry]
        else:
            sys.modules[telemetry] = with_it
    return openvino


@torch.no_grad()
def convert(network: nn.Module, scale: int) -> Model:
    """Return OpenVINO's form of one head of a ``SuperResolutionNet`` in eval mode on the CPU.

    It maps (B, 3, H, W) to (B, 3, H * scale, W * scale) in fp32, for any B, H and W that the network takes,
    and shares the network's weights.

    Raises:
        NotImplementedError: the network asks for an operation that has no translation here.
    """
    import numpy as np

    openvino = library()
    side = SuperResolutionNet.stride
    x = torch.zeros(1, 3, side, side)
    parameter = openvino.opset13.parameter([-1, 3, -1, -1], np.float32)
    with torch.autocast("cpu", enabled=False), _Recorder(x, parameter) as recorder:
        y = network(x, scale)
    return openvino.Model([recorder.node(y)], [parameter])


class _Recorder(TorchFunctionMode):
    """Lets torch work, and notes each operation on tensors as a node of OpenVINO's.

    A tensor that is overwritten in place stays the same object, and is its newest node. Tensors that no
    operation has made are constants.
    """

    def __init__(self, x: Tensor, parameter: Node) -> None:
        super().__init__()
        # By id, which is unique as long as the tensor beside it lives.
        self._nodes: dict[int, tuple[Tensor, Node | Output]] = {id(x): (x, parameter)}
        self._translate = _Operations(self.node)

    def node(self, tensor: Tensor) -> Node | Output:
        """What makes this tensor."""
        known = self._nodes.get(id(tensor))
        return known[1] if known else _constant(tensor)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            name = func.__name__.strip("_")  # relu_ is relu, and __add__ is add
            translate = getattr(self._translate, name, None)
            if translate is None:
                raise NotImplementedError(f"no translation of {func.__name__} for OpenVINO")
            self._nodes[id(result)] = (result, translate(*args, **kwargs))
        return result


class _Operations:
    """The operations of the network: names and arguments are torch's, the results nodes of OpenVINO's."""

    def __init__(self, node: Callable[[Tensor], Node | Output]) -> None:
        self._node, self._ops = node, library().opset13

    def add(self, input: Tensor, other: Tensor) -> Node:
        return self._ops.add(self._node(input), self._node(other))

    def sub(self, input: Tensor, other: Tensor) -> Node:
        return self._ops.subtract(self._node(input), self._node(other))

    def mul(self, input: Tensor, other: Tensor) -> Node:
        return self._ops.multiply(self._node(input), self._node(other))

    def div(self, input: Tensor, other: Tensor) -> Node:
        return self._ops.divide(self._node(input), self._node(other))

    def to(self, input: Tensor, dtype: torch.dtype) -> Node | Output:
        """Nothing: autocast is off, so that all is fp32, and the precision is chosen when it is compiled."""
        if input.dtype != dtype:
            raise NotImplementedError("no translation of casts for OpenVINO")
        return self._node(input)

    def relu(self, input: Tensor) -> Node:
        return self._ops.relu(self._node(input))

    def cat(self, tensors: Sequence[Tensor], dim: int) -> Node:
        return self._ops.concat([self._node(tensor) for tensor in tensors], dim)

    def conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Node:
        if groups != 1:
            raise NotImplementedError("no translation of convolutions in groups for OpenVINO")
        pads = list(padding)
        y = self._ops.convolution(
            self._node(input), _constant(weight), list(stride), pads, pads, list(dilation)
        )
        return y if bias is None else self._ops.add(y, _per_channel(bias))

    def batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Node:
        """A gain and an offset for each channel; OpenVINO merges them into a convolution before them."""
        if training:
            raise NotImplementedError("only a network in eval mode can be converted for OpenVINO")
        gain = weight / torch.sqrt(running_var + eps)
        y = self._ops.multiply(self._node(input), _per_channel(gain))
        return self._ops.add(y, _per_channel(bias - running_mean * gain))

    def max_pool2d(
        self,
        input: Tensor,
        kernel_size: int,
        stride: int,
        padding: int,
        dilation: int,
        ceil_mode: bool,
        return_indices: bool,
    ) -> Output:
        if dilation != 1 or ceil_mode or return_indices:
            raise NotImplementedError("no translation of such a max_pool2d for OpenVINO")
        pads = [padding, padding]
        pooled = self._ops.max_pool(self._node(input), [stride] * 2, [1, 1], pads, pads, [kernel_size] * 2)
        return pooled.output(0)  # the other one says where the maxima were

    def avg_pool2d(self, input: Tensor, kernel_size: int, stride: int) -> Node:
        strides, none = [stride] * 2, [0, 0]
        return self._ops.avg_pool(self._node(input), strides, none, none, [kernel_size] * 2, exclude_pad=True)

    def narrow(self, input: Tensor, dim: int, start: int, length: int) -> Node:
        return self._ops.slice(self._node(input), [start], [start + length], [1], [dim])

    def pixel_shuffle(self, input: Tensor, upscale_factor: int) -> Node:
        return self._ops.depth_to_space(self._node(input), "depth_first", upscale_factor)


def _per_channel(values: Tensor) -> Node:
    return _constant(values.view(1, -1, 1, 1))


def _constant(tensor: Tensor) -> Node:
    return library().opset13.constant(tensor.detach().contiguous().numpy(), shared_memory=True)
