"""What all phases of a training share, and the network before the first of them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from srbatch import weights
from srbatch.card import STRIDE
from srbatch.errors import DestinationError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.outputs.commit import make_folder
from srbatch.upscaling import allocator
from srbatch.upscaling.hardware import pick_device
from trainer import checkpoint, distributed, encoder, losses, photos
from trainer.checkpoint import State
from trainer.config import Config
from trainer.data import Stores, sample_crops
from trainer.distributed import World
from trainer.interruption import Interrupt

_KEPT_BYTES = 512 * 2**20
"""On a CPU: the largest feature maps and gradients of a batch; without, a step took 1.6 times as long."""
_CALIBRATION_CROPS = 32
_CALIBRATION_PX = 256

Say = Callable[[str], None]
"""Takes a line for people."""


@dataclass(frozen=True)
class Training:
    """What all phases share."""

    config: Config
    out: Path
    device: torch.device
    found: photos.Photos
    stores: Stores
    interrupt: Interrupt
    say: Say
    world: World


def check_files(config: Config, *, begun: bool) -> None:
    """What is missing or of no use is better found before every photo is read, which may take hours.

    Raises:
        WeightsError: weights that the losses need, or that a run begins with which has not ``begun``.
    """
    for name in {phase.loss for phase in config.phases}:
        losses.build(config.losses[name], {}, config.vgg_weights)
    if begun:
        return
    if config.start.weights is not None:
        _network_of(config, str(config.start.weights))
    else:
        network = SuperResolutionNet(config.network.with_stages(0))
        encoder.initialise(network.body.encoder, config.network.encoder, config.start.encoder)


def prepare(
    config: Config,
    folders: tuple[Path, ...],
    out: Path,
    cache: Path,
    interrupt: Interrupt,
    say: Say,
    *,
    smallest: int = 0,
) -> Training:
    """Look at the photos and decode them, but for those with a side below ``smallest`` or any crop's, pixels.

    Raises:
        UsageError: no photos.
        DestinationError: no space.
        DeviceError: there is no such device.
    """
    world, name = distributed.join(config.run.device)
    device = pick_device(name)
    if device.type == "cpu":
        allocator.keep_freed(_KEPT_BYTES)
    if not world.main:
        say = _say_nothing
    make_folder(out)
    say("reading every photo once")
    smallest = max(smallest, config.largest_crop)
    found = photos.find(folders, smallest=smallest, valid_percent=config.data.valid_percent)
    for path, reason in found.left_out:
        say(f"left out: {path}: {reason}")
    say(f"{len(found.train)} photos to train with, {len(found.valid)} to validate with")
    if not world.main:
        world.wait()  # for the main process to fill the cache
    limit = config.data.cache_gb * 1e9
    train_store = photos.Store(found.train, cache / "train", limit)
    valid_store = photos.Store(found.valid, cache / "valid", limit - train_store.cached_bytes)
    if world.main:
        world.wait()
    needed = sum(photo.bytes for photo in (*found.train, *found.valid))
    if beyond := needed - train_store.cached_bytes - valid_store.cached_bytes:
        say(
            f"{beyond / needed:.0%} of the pixels are decoded anew for each crop, which takes much longer;"
            f" --set data.cache_gb={math.ceil(needed / 1e9)} keeps all"
        )
    return Training(config, out, device, found, Stores(train_store, valid_store), interrupt, say, world)


def _say_nothing(_: str) -> None:
    """What all processes but the main one say."""


def begin(training: Training, earlier: State | None) -> tuple[State, SuperResolutionNet]:
    """The state and network to begin or go on with.

    Raises:
        UsageError: the state is that of another run.
        WeightsError: weights to begin with are missing or do not fit.
        DestinationError: no space for checkpoints.
    """
    config, say = training.config, training.say
    identity = {**config.identity(training.found.sha256), "processes": training.world.size}
    if earlier is None:
        state = State(identity, smallest=config.largest_crop, begun=_begun_with(config))
        network = first_network(training)
        _check_space(network, training.out)
    else:
        state = earlier
        checkpoint.go_on(state, identity, training.out, training.found.sizes)
        network = SuperResolutionNet(config.network.with_stages(checkpoint.stages(state)))
        network.load_state_dict(state.network)
        checkpoint.restore_rng(state.rng)
        say(
            f"going on from {training.out / checkpoint.FILE}, {int(state.logged.get('samples', 0)):,} samples"
        )
        for phase in config.phases[: state.phase]:
            if phase.lr not in ("find", state.rates[phase.name]):
                say(f"{phase.name} is done, with a learning rate of {state.rates[phase.name]:.2e}")
    state.photos, state.release = training.found.sizes, config.release.model_dump(mode="json")
    return state, placed(network, training)


def _begun_with(config: Config) -> dict[str, Any]:
    """What is to be remembered of the weights that the run begins with; nothing where it begins afresh."""
    if config.start.weights is None:
        return {}
    card = weights.read_card(weights.find(str(config.start.weights)))
    told = {"name": card.name, "version": card.version}
    return {**told, "scales": list(card.scales), "degradations": list(card.passed_on)}


def placed(network: SuperResolutionNet, training: Training) -> SuperResolutionNet:
    """The network on the device of the training, channels last."""
    return network.to(training.device).to(memory_format=torch.channels_last)


def first_network(training: Training) -> SuperResolutionNet:
    """The network before the first step: weights to go on from, or an encoder with fitting batch norm.

    Raises:
        WeightsError: weights are missing or are those of another network.
    """
    config, stages = training.config, training.config.phases[0].stages
    torch.manual_seed(config.run.seed)
    if config.start.weights is not None:
        loaded = _network_of(config, str(config.start.weights))
        if loaded.config.blur != config.network.blur:
            training.say(
                f"{config.start.weights} has blur = {loaded.config.blur}: its stages have to relearn"
            )
        network = SuperResolutionNet(config.network.with_stages(max(stages, loaded.config.stages)))
        network.load_state_dict(loaded.state_dict(), strict=False)
        return network
    network = SuperResolutionNet(config.network.with_stages(stages))
    found = encoder.initialise(network.body.encoder, config.network.encoder, config.start.encoder)
    if found.missing:
        training.say(f"not in {config.start.encoder}, so begun afresh: {', '.join(found.missing)}")
    encoder.recalibrate(network, found, _calibration_pictures(training))
    return network


def _network_of(config: Config, model: str) -> SuperResolutionNet:
    """The network of a file of weights, of the configuration but for stages and blur.

    Raises:
        WeightsError: they are missing or are those of another network.
    """
    loaded = weights.load(weights.find(model)).network
    stages = 0 if config.network.replaces else loaded.config.stages
    wanted = replace(config.network.with_stages(stages), blur=loaded.config.blur)
    if loaded.config != wanted:
        raise WeightsError(
            f"{model} is {loaded.config}, the configuration asks for {wanted};"
            " change network.encoder, features, refine_blocks, levels, decoder or replaces"
        )
    return loaded


def _calibration_pictures(training: Training) -> list[torch.Tensor]:
    side = min(_CALIBRATION_PX, training.config.largest_crop // STRIDE * STRIDE)
    crops = sample_crops(training.stores.train, side, range(_CALIBRATION_CROPS), training.config.run.seed)
    pictures = torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops])
    return list(torch.split(pictures, 4))


def _check_space(network: SuperResolutionNet, out: Path) -> None:
    """A checkpoint holds the network four times: itself, its average, two moments; two lie there at once."""
    needed = 8 * sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DestinationError(
            f"{out}: checkpoints need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; make room, or"
            " choose another --out"
        )
