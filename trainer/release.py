"""From the end of a run to the weights that srbatch takes: halo measured, record written, export verified."""

from __future__ import annotations

import datetime
import logging
import platform
from collections.abc import Collection
from pathlib import Path

import torch

from srbatch.card import Json
from srbatch.network import SuperResolutionNet
from trainer import export, halo
from trainer.checkpoint import State
from trainer.config import Config
from trainer.data import Stores, sample_crops
from trainer.export import Exported
from trainer.photos import Photos, Store
from trainer.schedule import up_to_scale

log = logging.getLogger(__name__)

_SQUARES_PX = ((448, 256), (384, 192), (288, 160))
"""(side of a square of a photo, side of the tile in its middle) that the halo can be measured on."""
_SQUARES = 6
_UNMEASURED = (32, 32)


def release(
    config: Config, network: SuperResolutionNet, found: Photos, stores: Stores, state: State, out: Path
) -> Exported:
    """Export the averaged weights of a run as ``out/NAME.safetensors``.

    Stages beyond the largest scale that it serves are left out: they belong to a body that is no more.

    Raises:
        WeightsError, DestinationError: as :func:`trainer.export.export`.
    """
    scales = served_scales(config, state.begun_scales)
    network = up_to_scale(network, scales[-1]).eval()
    margin = measure_halo(network, stores, config.run.seed)
    about = config.release
    return export.export(
        network,
        out / f"{about.name}.safetensors",
        name=about.name,
        version=about.version,
        description=about.description,
        licence=about.licence,
        scales=scales,
        degradations=tuple(
            dict.fromkeys(name for p in config.phases for name in config.degradations_of(p).names())
        ),
        training=record(
            config,
            found,
            state,
            next(network.parameters()).device,
            str(margin) if margin else "not measured: photos too small",
        ),
        metrics={"validation crops, PSNR-RGB in dB": dict(state.validation)},
        halo=margin.halo if margin else _UNMEASURED,
        storage=about.storage,
    )


def served_scales(config: Config, begun: Collection[int]) -> tuple[int, ...]:
    """What the weights of a run are good for: what it trained, and what it began with and left as it was.

    Where each phase trains only its newest stage, nothing changes on the way to smaller scales.

    Args:
        begun: the scales of the weights that it began with.
    """
    trained = {scale for phase in config.phases for scale in phase.head_weights}
    if all(phase.train == "stage" for phase in config.phases) and config.network.batch_norm == "fixed":
        trained |= {scale for scale in begun if scale < min(phase.scale for phase in config.phases)}
    return tuple(sorted(trained))


def measure_halo(network: SuperResolutionNet, stores: Stores, seed: int) -> halo.Choice | None:
    """What tiles need, on squares of validation photos, or of training photos if those are too small.

    None if no photo holds a square.
    """
    for side, tile in _SQUARES_PX:
        for store in (stores.valid, stores.train):
            if squares := _squares(store, side, seed):
                choice = halo.choose(halo.measure(network, squares, tile_px=tile))
                log.info("%s", choice)
                return choice
    return None


def _squares(store: Store, side: int, seed: int) -> list[torch.Tensor]:
    large = store.of_at_least(side)
    if not len(large):
        return []
    crops = sample_crops(large, side, range(_SQUARES), seed)
    return [torch.from_numpy(crop).permute(2, 0, 1)[None] for crop in crops]


def record(
    config: Config, found: Photos, state: State, device: torch.device, halo_text: str
) -> dict[str, Json]:
    """What the card tells of the training."""
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    return {
        "photos": len(found.train),
        "photos_sha256": found.sha256,
        "samples": int(state.logged.get("samples", 0)),
        "steps": int(state.logged.get("step", 0)),
        "seconds": round(state.logged.get("seconds", 0)),
        "hardware": hardware,
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rates": dict(state.rates),
        "halo": halo_text,
        "config": config.model_dump(
            mode="json", exclude={"run": {"device"}, "start": {"weights", "encoder"}, "vgg_weights": True}
        ),
    }
