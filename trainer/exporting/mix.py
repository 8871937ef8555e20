"""A network between two others: a point between fidelity and texture, chosen after the training.

Network interpolation, Wang et al. 2018 (ESRGAN, arXiv:1809.00219), section 3.4: of two networks of which one
was trained on from the other, every weighted mean of the weights is a network too, and its pictures lie
between theirs.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from srbatch import weights
from srbatch.card import Json, listed
from srbatch.errors import UsageError
from srbatch.network import SuperResolutionNet
from srbatch.weights import Storage, Weights
from trainer.exporting.export import Exported, check_apart, check_free, export_with

_X1 = ("body.", "refine.", "heads.0.")
"""What gives the picture at x1: all that comes before the stages, and its head."""


def mix(
    first: str,
    second: str,
    out: Path,
    *,
    share: float,
    keep_x1: bool,
    storage: Storage = "int8",
    overwrite: bool = False,
) -> Exported:
    """Write ``first`` + ``share`` x (``second`` - ``first``), weight by weight; the card tells of both.

    Args:
        share: 0 gives the first, 1 the second.
        keep_x1: whether all that x1 is made by stays the first's, so that only larger scales change.

    Raises:
        UsageError: they are networks of two kinds or serve no scale in common, the share is out of its range,
            or ``out`` is one of them, or another file that is not to be replaced.
        WeightsError, DestinationError: as ``weights.load`` and :func:`trainer.exporting.export.export_with`.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"--share {share:g}: a number from 0, the first network, to 1, the second")
    a, b = (weights.load(weights.find(name)) for name in (first, second))
    check_apart(out, a.path, b.path)
    check_free(out, overwrite=overwrite)
    if a.card.config != b.card.config:
        raise UsageError(f"{first} is {a.card.config} and {second} {b.card.config}: they cannot be mixed")
    scales = tuple(scale for scale in a.card.scales if scale in b.card.scales)
    if not scales:
        raise UsageError(
            f"{first} serves {listed(a.card.scales)} and {second} {listed(b.card.scales)}: a mixture of them"
            " would serve no scale"
        )
    wider = max(a.card, b.card, key=lambda card: card.halo_px * 2 + card.ramp_px)
    card = replace(
        a.card,
        scales=scales,
        degradations=tuple(dict.fromkeys((*a.card.passed_on, *b.card.passed_on))),
        halo_px=wider.halo_px,
        ramp_px=wider.ramp_px,
        training={"mixed": [_told(a), _told(b)], "share_of_the_second": share, "x1_of_the_first": keep_x1},
        metrics={},
    )
    return export_with(card, _between(a.network, b.network, share, keep_x1=keep_x1), out, storage)


def _between(
    a: SuperResolutionNet, b: SuperResolutionNet, share: float, *, keep_x1: bool
) -> SuperResolutionNet:
    theirs = b.state_dict()

    def mixed(name: str, mine: Tensor) -> Tensor:
        if not mine.is_floating_point() or (keep_x1 and name.startswith(_X1)):
            return mine
        return mine.lerp(theirs[name], share)

    network = copy.deepcopy(a)
    network.load_state_dict({name: mixed(name, mine) for name, mine in a.state_dict().items()})
    return network


def _told(loaded: Weights) -> Json:
    card = loaded.card
    return {"name": card.name, "version": card.version, "training": dict(card.training)}
