"""Weights in another storage, or as ONNX, with their halo measured anew where photos are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from srbatch import weights
from srbatch.errors import UsageError
from srbatch.network import SuperResolutionNet
from srbatch.weights import Storage
from trainer.exporting import halo, unfinished
from trainer.exporting.export import check_apart, check_free, export_with
from trainer.exporting.unfinished import checkpoint_of
from trainer.photos import decode, find_all


def reexport(
    model: str,
    out: Path,
    *,
    onnx: bool,
    dtype: Storage | None,
    halo_photos: Path | None,
    overwrite: bool = False,
) -> list[str]:
    """Write ``model`` to ``out``, a file of weights, or a folder of ONNX files; return lines for people.

    ``model`` may be the checkpoint of a run, or its folder: then the averaged weights are written.

    ``dtype`` is the storage of a file of weights, int8 where it is None.

    Raises:
        UsageError: ``onnx`` with one of the other two, which change nothing there; ``out`` is the model, or
            another file that is not to be replaced; or as what is called.
        WeightsError, DestinationError: as what is called.
    """
    given = {"--dtype": dtype, "--halo-photos": halo_photos}
    useless = [flag for flag, value in given.items() if value is not None]
    if onnx and useless:
        raise UsageError(
            f"{' and '.join(useless)} cannot be had with --onnx: its files are fp32 and keep the model's halo"
        )
    path = weights.find(model)
    if (begun := checkpoint_of(path)) is not None:
        return _of_checkpoint(begun, out, onnx=onnx, dtype=dtype, photos=halo_photos, overwrite=overwrite)
    loaded = weights.load(path)
    if onnx:
        from trainer.exporting.onnx_export import export_onnx

        card = loaded.card
        names = {scale: out / f"{card.name}-x{scale}.onnx" for scale in card.scales}
        for path in names.values():
            check_free(path, overwrite=overwrite)
        return [str(export_onnx(loaded, scale, path)) for scale, path in names.items()]
    check_apart(out, loaded.path)
    check_free(out, overwrite=overwrite)
    card, lines = loaded.card, []
    if halo_photos is not None:
        choice = _measured(loaded.network, halo_photos)
        card = replace(card, halo_px=choice.margin.halo_px, ramp_px=choice.margin.ramp_px)
        lines.append(str(choice))
    return [*lines, str(export_with(card, loaded.network, out, dtype or "int8"))]


def _of_checkpoint(
    path: Path, out: Path, *, onnx: bool, dtype: Storage | None, photos: Path | None, overwrite: bool
) -> list[str]:
    if onnx:
        raise UsageError(f"{path} is a checkpoint: export it to a .safetensors file, and that with --onnx")
    check_free(out, overwrite=overwrite)
    network, card = unfinished.load(path)
    lines = [f"{card.name} {card.training['checkpoint']}, {card.training['samples']:,} samples"]
    if photos is None:
        lines.append("its halo is not measured: tiles may show seams; --halo-photos measures it")
    else:
        choice = _measured(network, photos)
        told = {**card.training, "halo": str(choice)}
        card = replace(card, halo_px=choice.margin.halo_px, ramp_px=choice.margin.ramp_px, training=told)
        lines.append(str(choice))
    return [*lines, str(export_with(card, network, out, dtype or "int8"))]


def _measured(network: SuperResolutionNet, folder: Path) -> halo.Choice:
    side = halo.WHOLE_PX
    squares = [halo.middle(decode(photo.path)) for photo in find_all((folder,), smallest=side)[0]]
    if not squares:
        raise UsageError(f"--halo-photos {folder}: it holds no photo of at least {side} px on each side")
    return halo.choose(halo.measure(network, squares))
