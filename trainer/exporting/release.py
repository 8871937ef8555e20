"""From the end of a run to the weights that srbatch takes: halo measured, record written, export verified."""

from __future__ import annotations

import datetime
import logging
import platform
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from srbatch.card import Json
from srbatch.network import SuperResolutionNet
from trainer.checkpoint import State
from trainer.config import Config
from trainer.data import Stores, sample_crops, to_integers
from trainer.degradations import degrade
from trainer.degradations.bounds import Pixels, Settings
from trainer.degradations.degrade import Degradations
from trainer.exporting import export, halo
from trainer.exporting.export import Exported
from trainer.photos import Photos
from trainer.schedule import up_to_scale

log = logging.getLogger(__name__)

_SQUARES_PX = ((448, 256), (384, 192), (288, 160))
"""(side of a square of a photo, side of the tile in its middle) that the halo can be measured on."""
_SQUARES = 6
_DAMAGED_SQUARES = 2
"""Of each kind of damage."""
_ON = "for clean photos and for each kind of damage at its strongest"
UNMEASURED = (32, 32)
"""(halo, ramp) in pixels where there are no photos to measure them on."""


def release(
    config: Config, network: SuperResolutionNet, found: Photos, stores: Stores, state: State, out: Path
) -> Exported:
    """Export the averaged weights of a run as ``out/NAME.safetensors``.

    Stages beyond the largest scale that it serves are left out: they belong to a body that is no more.

    Raises:
        WeightsError, DestinationError: as :func:`trainer.exporting.export.export`.
    """
    scales = served_scales(config, state.begun.get("scales", ()))
    suffered = tuple(config.degradations_of(phase) for phase in config.phases)
    network = up_to_scale(network, scales[-1]).eval()
    margin = measure_halo(network, stores, config.run.seed, suffered)
    about = config.release
    return export.export(
        network,
        out / f"{about.name}.safetensors",
        name=about.name,
        version=about.version,
        description=about.description,
        licence=about.licence,
        scales=scales,
        degradations=learnt(config, state),
        training=record(
            config,
            state,
            photos=len(found.train),
            photos_sha256=found.sha256,
            hardware=_hardware(next(network.parameters()).device),
            torch=torch.__version__,
            halo=f"{margin}, {_ON}" if margin else "not measured: photos too small",
        ),
        metrics=metrics(state),
        halo=margin.halo if margin else UNMEASURED,
        storage=about.storage,
    )


def served_scales(config: Config, begun: Collection[int]) -> tuple[int, ...]:
    """What the weights of a run are good for: what it trained or began with, and left as it was since.

    A phase that trains the newest stage alone changes nothing on the way to smaller scales; any other moves
    the body beneath all heads, and those that it does not train fit no more.

    Args:
        begun: the scales of the weights that it began with.
    """
    served = set(begun)
    for phase in config.phases:
        if phase.train == "stage" and config.network.batch_norm == "fixed":
            served = {scale for scale in served if scale < phase.scale} | {phase.scale}
        else:
            served = set(phase.head_weights)
    return tuple(sorted(served))


def measure_halo(
    network: SuperResolutionNet, stores: Stores, seed: int, learnt: Iterable[Degradations]
) -> halo.Choice | None:
    """What tiles need, on squares of validation photos, or of training photos if those are too small.

    Measured on the squares as they are and, each by itself, on some of them with each kind of damage that
    was ``learnt``, at its strongest: a network that leaves clean photos alone looks no further than a pixel
    there, and takes out noise by what lies far around. The margin is chosen by the kind that it serves worst.

    None if no photo holds a square.
    """
    damages = {
        (kind, settings.of(kind).strongest()): None for settings in learnt for kind in settings.undone()
    }
    for side, tile in _SQUARES_PX:
        for store in (stores.valid, stores.train):
            large = store.of_at_least(side)
            if not len(large):
                continue
            clean = sample_crops(large, side, range(_SQUARES), seed)
            measured = []
            for name, squares in _sets(clean, tuple(damages), seed):
                measured.append(halo.measure(network, map(_tensor, squares), tile_px=tile))
                log.info("%s: %s", name, halo.choose(measured[-1]))
            return halo.choose(halo.worst(measured))
    return None


def _sets(
    clean: Sequence[Pixels], damages: Sequence[tuple[str, Settings]], seed: int
) -> Iterator[tuple[str, Sequence[Pixels]]]:
    """The squares as they are, and for each kind of damage, at that strength, some that have suffered it."""
    yield "clean", clean
    for number, (kind, settings) in enumerate(damages):
        some = [clean[(number + i) % len(clean)] for i in range(_DAMAGED_SQUARES)]
        rng = np.random.default_rng([seed, number])
        yield kind, [degrade.apply(kind, square, rng, settings) for square in some]


def _tensor(pixels: Pixels) -> torch.Tensor:
    """(H, W, 3) in [0, 1] as (1, 3, H, W), rounded to 8 bits as photos are."""
    return torch.from_numpy(to_integers(pixels)).permute(2, 0, 1)[None] / 255


def learnt(config: Config, state: State) -> tuple[str, ...]:
    """Names of what the weights of a run learnt to undo, with what those had that it began with."""
    names = (name for phase in config.phases for name in config.degradations_of(phase).names())
    return tuple(dict.fromkeys((*state.begun.get("degradations", ()), *names)))


def metrics(state: State) -> dict[str, Json]:
    """What the card tells of the last validation."""
    return {"validation crops, PSNR-RGB in dB": dict(state.validation)}


def record(config: Config, state: State, **others: Json) -> dict[str, Json]:
    """What the card tells of the training."""
    return {
        **({"begun_with": {k: state.begun[k] for k in ("name", "version")}} if state.begun else {}),
        "samples": int(state.logged.get("samples", 0)),
        "steps": int(state.logged.get("step", 0)),
        "seconds": round(state.logged.get("seconds", 0)),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rates": dict(state.rates),
        **others,
        "config": config.model_dump(
            mode="json", exclude={"run": {"device"}, "start": {"weights", "encoder"}, "vgg_weights": True}
        ),
    }


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
