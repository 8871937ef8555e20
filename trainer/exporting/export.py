"""From a trained network to a file that srbatch runs: self-describing safetensors, verified.

A file stands under its name only after it was read back and gave the network's own pictures.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from srbatch import weights
from srbatch.card import Card, Json
from srbatch.errors import DestinationError, UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.outputs import commit
from srbatch.weights import Storage, Weights
from trainer.exporting import parity

log = logging.getLogger(__name__)

_INT8_FROM = (0, 50_000, 200_000, 700_000)
"""Smallest convolutions stored as int8, by their number of weights, in the order in which they are tried.

Rounding those of the first blocks, which all others build on, moved a trained network's pictures by up to
9.5/255, and rounding any of 290,000 weights or more, which are 95 % of the file, by 0.1/255 at most.
"""
_FP16: Sequence[tuple[Storage, int]] = (("fp16", 0), ("fp16", 50_000), ("fp16", 200_000))
_LIMITS: Mapping[Storage, float] = {
    "int8": parity.LIMIT,
    "fp16": parity.LIMIT,
    "fp32": parity.EXACT_LIMIT,
}
_TRIED: Mapping[Storage, Sequence[tuple[Storage, int]]] = {
    "int8": (*(("int8", smallest) for smallest in _INT8_FROM), *_FP16, ("fp32", 0)),
    "fp16": (*_FP16, ("fp32", 0)),
    "fp32": (("fp32", 0),),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of weights that was written and verified."""

    weights: Weights
    """As read back from the file."""
    storage: Storage
    """What convolutions are stored as; fp16 or fp32 where less was asked and would have changed the pictures.

    Small ones are a step finer where that was needed, as the note tells.
    """
    parity: Mapping[int, float]
    """By scale, the largest difference from the network that was exported, in units of 1/255."""
    note: str = ""
    """What was done otherwise than asked, and why."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.weights.path

    def __str__(self) -> str:
        line = f"{self.path}: {self.storage}, {parity.told(self.parity)} of the network's pictures"
        return f"{line}; {self.note}" if self.note else line


def check_apart(out: Path, *models: Path) -> None:
    """A model, which may have been trained for days, is not replaced by what is made of it.

    Raises:
        UsageError: ``out`` is one of the ``models``.
    """
    if any(out.exists() and model.exists() and out.samefile(model) for model in models):
        raise UsageError(f"--out {out} is the model itself; choose another name for what is made of it")


def check_free(out: Path, *, overwrite: bool) -> None:
    """What is there already, a model perhaps that others were made from, is not replaced unasked.

    Raises:
        UsageError: there is something, and it is not to be replaced.
    """
    if os.path.lexists(out) and not overwrite:
        raise UsageError(f"--out: {out} exists; --overwrite replaces it")


def export(
    network: SuperResolutionNet,
    out: Path,
    *,
    name: str,
    version: str,
    description: str,
    licence: str,
    scales: tuple[int, ...],
    degradations: tuple[str, ...],
    training: Mapping[str, Json],
    metrics: Mapping[str, Json],
    halo: tuple[int, int],
    storage: Storage = "int8",
) -> Exported:
    """Write ``network`` with a new card, as :func:`export_with` does.

    Args:
        scales: the heads that were trained, smallest first.
        halo: (halo, ramp) in pixels of the input grid, as :mod:`trainer.exporting.halo` measures them.

    Raises:
        UsageError: the name of the file or something on the card is not valid.
        WeightsError: the network has values that cannot be stored, or the file does not give its pictures.
        DestinationError: the file cannot be written.
    """
    try:
        card = Card(
            name=name,
            version=version,
            description=description,
            licence=licence,
            config=network.config,
            scales=scales,
            halo_px=halo[0],
            ramp_px=halo[1],
            degradations=degradations,
            training=training,
            metrics=metrics,
        )
    except ValueError as error:
        raise UsageError(f"{out} was not written: {error}") from error
    return export_with(card, network, out, storage)


def export_with(card: Card, network: SuperResolutionNet, out: Path, storage: Storage) -> Exported:
    """Write ``network`` and its card to ``out``, whole and verified or not at all; an older file is replaced.

    Where int8 changes a picture by more than `parity.LIMIT`, more and more of the small convolutions are
    stored as fp16 instead, and in the end all of them, with a note; where fp16 does so too, as a head that
    replaces pixels may make it, the same with fp32. The network may be on any device and in training; it is
    not changed.

    Args:
        out: ends in ``.safetensors``; its folder is made if need be.

    Raises:
        UsageError: the name of the file is not valid.
        WeightsError: the network has values that cannot be stored, or the file does not give its pictures.
        DestinationError: the file cannot be written.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: files of weights end in .safetensors")
    with temporary_folder(out) as folder:
        found = _first_faithful(parity.reference(network), card, folder, out, storage)
        put(found.path, out)
    exported = dataclasses.replace(found, weights=dataclasses.replace(found.weights, path=out))
    log.info("%s", exported)
    return exported


def _first_faithful(
    reference: SuperResolutionNet, card: Card, folder: Path, out: Path, storage: Storage
) -> Exported:
    """Store in ``folder``, read back and compare, beginning with the storage that was asked for."""
    expected = _residuals(reference)
    notes: list[str] = []
    for kind, smallest in _TRIED[storage]:
        loaded = _store(reference, card, folder / f"{kind}-{smallest}.safetensors", out, kind, smallest)
        got = _residuals(loaded.network)
        found = {
            scale: max(parity.difference(a[scale], b[scale]) for a, b in zip(got, expected, strict=True))
            for scale in card.scales
        }
        if max(found.values()) <= _LIMITS[kind]:
            if smallest:
                notes.append(f"convolutions of fewer than {smallest:,} weights are {weights.FINER[kind]}")
            return Exported(loaded, kind, found, "; ".join(notes))
        if not smallest:
            notes.append(f"{kind} changes pictures by more than {_LIMITS[kind]}/255: {parity.told(found)}")
    raise WeightsError(
        f"{out} was not written; read back, it does not give the network's pictures ({'; '.join(notes)}):"
        " the disk or the memory may be at fault"
    )


def _store(
    network: SuperResolutionNet, card: Card, path: Path, out: Path, storage: Storage, rounded_from: int
) -> Weights:
    try:
        weights.save(path, network, card, storage, rounded_from=rounded_from)
    except (ValueError, TypeError) as error:  # TypeError: the training record or the metrics are not JSON
        raise WeightsError(f"{out} was not written: {error}") from error
    return weights.load(path)


def _residuals(network: SuperResolutionNet) -> list[dict[int, Tensor]]:
    """By scale, for each of `parity.pictures`; bases are the same, so residuals differ as pictures do."""
    with torch.inference_mode():
        return [
            dict(zip(network.config.scales, network.residuals(picture), strict=True))
            for picture in parity.pictures()
        ]


@contextmanager
def temporary_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` for what is not verified yet; it is removed with all that is still in it.

    Raises:
        DestinationError: the file system refused, here or inside the block.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own: in that of the releases, only what SHA256SUMS lists can be read back.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=commit.TEMP_PREFIX) as folder:
            yield Path(folder)
    except OSError as error:
        raise DestinationError(
            f"{out} cannot be written: {error.strerror or error}; make room, or choose another place for it"
        ) from error


def put(temporary: Path, out: Path) -> None:
    """Give a verified file its name, durably.

    Raises:
        OSError: the file system refused.
    """
    commit.sync_file(temporary)
    temporary.replace(out)
    commit.sync_folder(out.parent)
