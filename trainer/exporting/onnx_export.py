"""A head of a file of weights as ONNX, for those who run it without srbatch."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from srbatch.errors import UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.weights import Weights
from trainer.exporting import parity
from trainer.exporting.export import put, temporary_folder

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

OPSET = 18
"""The lowest that torch's exporter writes without converting."""
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_OLDEST_TORCH = (2, 7)


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """An ONNX file that was written and verified."""

    path: Path
    scale: int
    parity: float
    """Largest difference between onnxruntime's pictures and torch's, in units of 1/255."""

    def __str__(self) -> str:
        return f"{self.path}: ONNX, {parity.told({self.scale: self.parity})} of torch's pictures"


class _Enlarger(nn.Module):
    """One head with its base: the picture itself, as somebody without srbatch wants it."""

    def __init__(self, network: SuperResolutionNet, scale: int) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3, H * scale, W * scale)."""
        picture: Tensor = self.network.enlarge(x, self.scale) + self.network(x, self.scale)
        return picture


def export_onnx(source: Weights, scale: int, out: Path) -> OnnxExport:
    """Write one head to ``out``, whole and verified by onnxruntime or not at all; an older file is replaced.

    Input ``x`` is float32 (B, 3, H, W), RGB in [0, 1], of any size whose sides are multiples of 32. Output
    ``y`` (B, 3, H * scale, W * scale) is the picture, with its bicubic base, not clipped. Normalisation is
    inside. The model's metadata say what it is, what its tiles need, and which file of weights it came from.

    Raises:
        UsageError: no trained head for this scale, not a name of an ONNX file, or a package is missing.
        WeightsError: onnxruntime does not give torch's pictures.
        DestinationError: the file cannot be written.
    """
    if out.suffix != ".onnx":
        raise UsageError(f"{out}: ONNX files end in .onnx")
    if scale not in source.card.scales:
        heads = ", ".join(map(str, source.card.scales))
        raise UsageError(f"{source.path} has no trained head for scale {scale}; it has {heads}")
    _require_packages()
    enlarger = _Enlarger(parity.reference(source.network), scale).eval()
    model = _convert(enlarger)
    _describe(model, source, scale)
    with temporary_folder(out) as folder:
        temporary = folder / out.name
        temporary.write_bytes(model.SerializeToString())
        largest = _largest_difference(temporary, enlarger)
        if largest > parity.EXACT_LIMIT:
            raise WeightsError(
                f"{out} was not written: onnxruntime's pictures differ from torch's by {largest:.3g}/255, "
                f"more than {parity.EXACT_LIMIT}/255; try other versions of onnxscript and onnxruntime"
            )
        put(temporary, out)
    exported = OnnxExport(out, scale, largest)
    log.info("%s", exported)
    return exported


def _require_packages() -> None:
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        raise UsageError(f"ONNX needs torch {oldest} or newer, and this is {torch.__version__}")
    missing = " ".join(package for package in _PACKAGES if importlib.util.find_spec(package) is None)
    if missing:
        raise UsageError(f"ONNX needs packages that are not installed: python -m pip install {missing}")


def _convert(enlarger: _Enlarger) -> onnx.ModelProto:
    stride = SuperResolutionNet.stride
    # What is 1 in the example would be taken for a constant.
    example = torch.zeros(2, 3, 2 * stride, 3 * stride)
    batch, rows, columns = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "rows", "columns"))
    program: Any = torch.onnx.export(
        enlarger,
        (example,),
        input_names=["x"],
        output_names=["y"],
        opset_version=OPSET,
        dynamo=True,  # the older exporter is deprecated and warns on every call
        dynamic_shapes={"x": {0: batch, 2: stride * rows, 3: stride * columns}},
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    return model


def _describe(model: onnx.ModelProto, source: Weights, scale: int) -> None:
    """Name the axes for people, and say what the model is and where it comes from."""
    import onnx.helper

    del model.graph.value_info[:]  # shapes in between, in terms of the names that are replaced here
    after = f" * {scale}" if scale > 1 else ""
    for value, suffix in ((model.graph.input[0], ""), (model.graph.output[0], after)):
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = "batch"
        axes[2].dim_param = f"height{suffix}"
        axes[3].dim_param = f"width{suffix}"
    card = source.card
    properties = {
        "name": card.name,
        "version": card.version,
        "description": card.description,
        "licence": card.licence,
        "scale": str(scale),
        "weights_sha256": source.sha256,
        "degradations": ", ".join(card.degradations),
        "generative": str(card.generative).lower(),
        "halo_px": str(card.halo_px),
        "ramp_px": str(card.ramp_px),
        "stride_px": str(SuperResolutionNet.stride),
        "input": "RGB in [0, 1], height and width multiples of stride_px; normalisation is inside",
        "output": "RGB, bicubic base and residual, not clipped",
    }
    onnx.helper.set_model_props(model, properties)


def _largest_difference(path: Path, enlarger: _Enlarger) -> float:
    """Compare over `parity.pictures` and a batch of two of them, none of the traced shape."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    single = parity.pictures()
    differences = []
    for x in (*single, torch.cat([single[0], single[0].flip(3)])):
        with torch.inference_mode():
            expected = enlarger(x)
        (got,) = session.run(["y"], {"x": x.numpy()})
        differences.append(parity.difference(torch.from_numpy(got), expected))
    return max(differences)
