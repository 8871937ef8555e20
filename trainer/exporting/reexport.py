"""Weights in another storage, or as ONNX, with their halo measured anew where photos are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from srbatch import weights
from srbatch.errors import UsageError
from srbatch.weights import Storage, Weights
from trainer.exporting import halo
from trainer.exporting.export import check_apart, export_with
from trainer.photos import decode, find_all


def reexport(
    model: str, out: Path, *, onnx: bool, dtype: Storage | None, halo_photos: Path | None
) -> list[str]:
    """Write ``model`` to ``out``, a file of weights, or a folder of ONNX files; return lines for people.

    ``dtype`` is the storage of a file of weights, int8 where it is None.

    Raises:
        UsageError: ``onnx`` with one of the other two, which change nothing there; ``out`` is the model; or
            as what is called.
        WeightsError, DestinationError: as what is called.
    """
    given = {"--dtype": dtype, "--halo-photos": halo_photos}
    useless = [flag for flag, value in given.items() if value is not None]
    if onnx and useless:
        raise UsageError(
            f"{' and '.join(useless)} cannot be had with --onnx: its files are fp32 and keep the model's halo"
        )
    loaded = weights.load(weights.find(model))
    if onnx:
        from trainer.exporting.onnx_export import export_onnx

        card = loaded.card
        names = {scale: out / f"{card.name}-x{scale}.onnx" for scale in card.scales}
        return [str(export_onnx(loaded, scale, path)) for scale, path in names.items()]
    check_apart(out, loaded.path)
    card, lines = loaded.card, []
    if halo_photos is not None:
        choice = _measured(loaded, halo_photos)
        card = replace(card, halo_px=choice.halo[0], ramp_px=choice.halo[1])
        lines.append(str(choice))
    return [*lines, str(export_with(card, loaded.network, out, dtype or "int8"))]


def _measured(loaded: Weights, folder: Path) -> halo.Choice:
    side = halo.WHOLE_PX
    squares = [halo.middle(decode(photo.path)) for photo in find_all((folder,), smallest=side)[0]]
    if not squares:
        raise UsageError(f"--halo-photos {folder}: it holds no photo of at least {side} px on each side")
    return halo.choose(halo.measure(loaded.network, squares))
