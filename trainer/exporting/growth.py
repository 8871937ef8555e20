"""A larger network from a trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from srbatch import weights
from srbatch.card import MAX_STAGES
from srbatch.errors import UsageError
from trainer.exporting.export import Exported, check_apart, check_free, export_with
from trainer.schedule import with_stages


def grow(model: str, out: Path, seed: int, *, overwrite: bool = False) -> Exported:
    """Write ``model`` with one x2 stage more, which gives about the bicubic picture as it is.

    The new head is not among the scales of the card: it has to be trained first, with ``--weights``.

    Raises:
        UsageError: it has as many stages as a network can have, or replaces pixels; ``out`` is that file, or
            another that is not to be replaced.
        WeightsError, DestinationError: as ``weights.load`` and :func:`trainer.exporting.export.export_with`.
    """
    loaded = weights.load(weights.find(model))
    check_apart(out, loaded.path)
    check_free(out, overwrite=overwrite)
    card = loaded.card
    if card.config.replaces:
        raise UsageError(f"{model} replaces pixels of photos at their own size, and cannot have a stage")
    stages = card.config.stages + 1
    if stages > MAX_STAGES:
        raise UsageError(f"{model} has {card.config.stages} stages already, the most there can be")
    network = with_stages(loaded.network, stages, seed)
    training = {**card.training, "grown_to_stages": stages}
    grown = replace(card, config=network.config, degradations=card.passed_on, training=training)
    return export_with(grown, network, out, "fp16")
