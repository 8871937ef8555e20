"""Weights in another storage, or as ONNX, with their halo measured anew where photos are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from srbatch import weights
from srbatch.errors import UsageError
from srbatch.weights import Weights
from trainer import halo
from trainer.export import export_with
from trainer.photos import decode, find_all


def reexport(
    model: str, out: Path, *, onnx: bool, dtype: Literal["int8", "fp16", "fp32"], halo_photos: Path | None
) -> list[str]:
    """Write ``model`` to ``out``, a file of weights, or a folder of ONNX files; return lines for people.

    Raises:
        UsageError, WeightsError, DestinationError: as what is called.
    """
    loaded = weights.load(weights.find(model))
    if onnx:
        from trainer.onnx_export import export_onnx

        card = loaded.card
        names = {scale: out / f"{card.name}-x{scale}.onnx" for scale in card.scales}
        return [str(export_onnx(loaded, scale, path)) for scale, path in names.items()]
    card, lines = loaded.card, []
    if halo_photos is not None:
        choice = _measured(loaded, halo_photos)
        card = replace(card, halo_px=choice.halo[0], ramp_px=choice.halo[1])
        lines.append(str(choice))
    return [*lines, str(export_with(card, loaded.network, out, dtype))]


def _measured(loaded: Weights, folder: Path) -> halo.Choice:
    side = halo.WHOLE_PX
    squares = [halo.middle(decode(photo.path)) for photo in find_all((folder,), smallest=side)[0]]
    if not squares:
        raise UsageError(f"--halo-photos {folder}: it holds no photo of at least {side} px on each side")
    return halo.choose(halo.measure(loaded.network, squares))
