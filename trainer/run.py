"""A whole training: phase after phase, from wherever an earlier start of the same run got to."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.learner import Learner

from srbatch import weights
from srbatch.card import STRIDE, listed
from srbatch.discovery.apart import check_outside
from srbatch.errors import DestinationError, DeviceError, UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.outputs.commit import make_folder
from srbatch.upscaling import allocator
from srbatch.upscaling.hardware import pick_device
from trainer import checkpoint, distributed, encoder, learner, losses, photos, schedule
from trainer.callbacks import (
    GO_ON,
    Autocast,
    Average,
    Ending,
    FixedNorms,
    LogWriter,
    LossLog,
    Position,
    Progress,
    StopWhenNotFinite,
    TrainingDiverged,
    Validation,
    new_average,
)
from trainer.checkpoint import Checkpoints, State, averaged
from trainer.config import Config, Phase
from trainer.data import Steps, Stores, loaders, no_workers_left, sample_crops
from trainer.distributed import World
from trainer.exporting import release
from trainer.exporting.export import check_apart
from trainer.interruption import EndAtOnce, Interrupt, Stop
from trainer.panels import Panels
from trainer.plots import plot_losses

_KEPT_BYTES = 512 * 2**20
"""On a CPU: the largest feature maps and gradients of a batch; without, a step took 1.6 times as long."""
_CALIBRATION_CROPS = 32
_CALIBRATION_PX = 256

Say = Callable[[str], None]
"""Takes a line for people."""


@contextmanager
def _fitting_into_memory(index: int, phase: Phase, *, begun: bool = False) -> Iterator[None]:
    """Say what to do where the device's memory does not hold a step."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if begun:
            advice = "it has begun: go on where there is as much memory as it began with"
        elif phase.batch == 1:
            advice = f"one crop is too much: lower --set phases.{index}.size, or use a larger GPU"
        else:
            parts = next(n for n in range(2, phase.batch + 1) if phase.batch % n == 0)
            advice = (
                "run again, with the same gradients by"
                f" --set phases.{index}.batch={phase.batch // parts}"
                f" --set phases.{index}.accumulate={parts * phase.accumulate}"
            )
        raise DeviceError(
            f"phase {phase.name}: a batch of {phase.batch} does not fit into the device's memory; {advice}"
        ) from error


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


def train(
    config: Config, folders: tuple[Path, ...], out: Path, *, say: Say, cache: Path | None = None
) -> Path:
    """Train by the configuration, and return the path of the exported weights.

    Started again with the same ``out`` it goes on where it was, and gives the same weights. Decoded photos
    lie in ``cache``, by default ``out/cache``.

    Raises:
        UsageError: no photos, ``out`` lies among them or holds another run.
        WeightsError: weights to begin with are missing or do not fit.
        DeviceError: there is no such device, or its memory does not hold a step.
        DestinationError: no space.
        LockedError: another process trains into ``out``.
        TrainingDiverged: the loss is no longer a number.
        Interrupted: stopped by a signal; the state is saved.
    """
    interrupt, (world, _) = Interrupt(), distributed.join(config.run.device)
    _check_apart(folders, out, cache)
    with checkpoint.owned(out, main=world.main):
        earlier = checkpoint.load(out)
        _check_files(config, begun=earlier is not None)
        if earlier is None and config.start.weights is not None:
            check_apart(out / f"{config.release.name}.safetensors", weights.find(str(config.start.weights)))
        smallest = earlier.smallest if earlier else 0
        training = prepare(config, folders, out, cache or out / "cache", interrupt, say, smallest=smallest)
        state, network = _begin(training, earlier)
        served = release.served_scales(config, state.begun.get("scales", ()))
        training.say(f"the weights will serve {listed(served)}")
        with interrupt.listening(), no_workers_left():  # from here on there is something to save
            with _logging(training, state) as writer:
                for index in range(state.phase, len(config.phases)):
                    network = _run_phase(index, network, state, training, writer)
            if training.world.main:
                network.load_state_dict(averaged(state))
                exported = release.release(config, network, training.found, training.stores, state, out)
                training.say(str(exported))
            training.world.wait()
    return out / f"{config.release.name}.safetensors"


def _check_apart(folders: tuple[Path, ...], out: Path, cache: Path | None) -> None:
    """What is written among the photos would be taken for some of them by the next start.

    Raises:
        UsageError: so it would be.
    """
    check_outside(folders, {"--out": out, "--cache": cache})


def _check_files(config: Config, *, begun: bool) -> None:
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


@contextmanager
def _logging(training: Training, state: State) -> Iterator[LogWriter | None]:
    """The log of the run, in the process that writes; its curves are drawn at the end, whatever that is."""
    if not training.world.main:
        yield None
        return
    writer = LogWriter(training.out, state.logged)
    try:
        yield writer
    finally:
        # What ended the run is to be told, not that its curves have no room; the next start draws them.
        with contextlib.suppress(OSError):
            writer.close()
            plot_losses(writer.path, training.out / "losses.png")


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


def _begin(training: Training, earlier: State | None) -> tuple[State, SuperResolutionNet]:
    """The state and network to begin or go on with."""
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
    return state, _placed(network, training)


def _begun_with(config: Config) -> dict[str, Any]:
    """What is to be remembered of the weights that the run begins with; nothing where it begins afresh."""
    if config.start.weights is None:
        return {}
    card = weights.read_card(weights.find(str(config.start.weights)))
    told = {"name": card.name, "version": card.version}
    return {**told, "scales": list(card.scales), "degradations": list(card.passed_on)}


def _placed(network: SuperResolutionNet, training: Training) -> SuperResolutionNet:
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
    wanted = replace(config.network.with_stages(loaded.config.stages), blur=loaded.config.blur)
    if loaded.config != wanted:
        raise WeightsError(
            f"{model} is {loaded.config}, the configuration asks for {wanted};"
            " change network.encoder, features or refine_blocks"
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


# ---- one phase --------------------------------------------------------------------------------------------


def _run_phase(
    index: int, network: SuperResolutionNet, state: State, training: Training, writer: LogWriter | None
) -> SuperResolutionNet:
    """Fit one phase, from where the state stands in it, and note in the state that it is done."""
    config = training.config
    phase = config.phases[index]
    network = schedule.with_stages(network, phase.stages, config.run.seed + index)
    ending = Ending()
    learn, steps = phase_learner(training, index, network, ending)
    average = new_average(network, config.optimiser.ema)
    validation, begun = Validation(), state.optimiser is not None
    if begun:
        learn.opt.load_state_dict(state.optimiser)
        average.load_state_dict(state.average)
    with _fitting_into_memory(index, phase, begun=begun):
        highest = _rate(index, learn, state, training)
        learn.fit_one_cycle(
            phase.epochs,
            lr_max=learner.rates(phase, highest),
            pct_start=phase.warm_up,
            cbs=[
                Position(steps, state.epoch, state.step, state.pct_train),
                Average(average),
                validation,
                *_around_steps(phase, state, training),
                *(_shown(phase, len(steps), state, training, writer) if writer else []),
            ],
        )
    ending.raise_if_any()
    if not checkpoint.is_finite(network):
        raise TrainingDiverged(f"the last steps of phase {phase.name} left weights that are none; {GO_ON}")
    for line in validation.told(phase.head_weights):
        training.say(f"{phase.name}: {line}")
    state.phase, state.epoch, state.step, state.optimiser = index + 1, 0, 0, None
    if training.world.main:
        checkpoint.save(state, training.out)
    return network


def _around_steps(phase: Phase, state: State, training: Training) -> list[Callback]:
    """What every process does beside the steps themselves."""
    config, world = training.config, training.world
    accumulated = [GradientAccumulation(phase.batch * phase.accumulate)] if phase.accumulate > 1 else []
    stop = Stop(training.interrupt, lambda flag: world.any(flag, training.device), phase.accumulate)
    return [
        *([distributed.spread(training.device)] if world.size > 1 else []),
        StopWhenNotFinite(lambda flag: world.any(flag, training.device)),
        *accumulated,
        GradientClip(config.optimiser.clip),
        stop,
        Checkpoints(state, training.out, config.run.checkpoint_minutes, write=world.main),
    ]


def _shown(phase: Phase, steps: int, state: State, training: Training, writer: LogWriter) -> list[Callback]:
    """What people see of a phase; one process is enough for that."""
    run = training.config.run
    samples = phase.batch * training.world.size
    return [
        Panels(training.out / "panels", phase.name, run.panel_photos),
        LossLog(writer, run.log_every, phase.name, samples),
        Progress(phase.name, phase.epochs * steps, state.epoch * steps + state.step),
    ]


def phase_learner(
    training: Training, index: int, network: SuperResolutionNet, ending: Ending
) -> tuple[Learner, Steps]:
    """The Learner of a phase, ready to fit or to look for a rate, and its sampler."""
    config = training.config
    phase = config.phases[index]
    world = training.world
    data, steps = loaders(config, index, training.stores, training.device, rank=world.rank, world=world.size)
    loss = losses.build(config.losses[phase.loss], phase.head_weights, config.vgg_weights)
    always = [
        ending,
        Autocast(lambda: learner.autocast(training.device, config.run.precision)),
        *([FixedNorms()] if config.network.batch_norm == "fixed" else []),
    ]
    return learner.build(config, phase, network, data, loss, always, training.out), steps


def _rate(index: int, learn: Learner, state: State, training: Training) -> float:
    """The highest rate of a phase; what was found before an interruption is not looked for again."""
    config = training.config
    phase = config.phases[index]
    if phase.lr != "find":
        state.rates[phase.name] = phase.lr
    elif phase.name not in state.rates:
        found = training.world.from_main(_find(phase, learn, training) if training.world.main else None)
        state.rates[phase.name] = schedule.highest_rate(config, index, state.rates, found)
    training.say(f"{phase.name}: learning rate {state.rates[phase.name]:.2e}")
    return state.rates[phase.name]


def _find(phase: Phase, learn: Learner, training: Training) -> float:
    training.say(f"{phase.name}: looking for a learning rate over {schedule.FINDER_STEPS} steps")
    plot = training.out / f"lr-{phase.name}.png"
    # fastai keeps the weights in a file meanwhile.
    with learn.added_cbs([EndAtOnce(training.interrupt)]), checkpoint.written(plot):
        finding = schedule.find_rate(learn)
        schedule.plot_finding(finding, phase.name, plot)
    return finding.suggested


def find_rate(
    config: Config, folders: tuple[Path, ...], out: Path, index: int, *, say: Say, cache: Path | None = None
) -> float:
    """Look for the rate of one phase with the weights that the run would begin with; return it.

    It is looked for also where the configuration gives one. Writes ``lr-PHASE.png`` into ``out``.

    Raises:
        UsageError: no photos, no such phase, no rate to be found, or ``out`` lies among the photos.
        WeightsError: weights to begin with are missing or do not fit.
        DeviceError: there is no such device, or its memory does not hold a step.
        Interrupted: stopped by a signal.
    """
    if not 0 <= index < len(config.phases):
        raise UsageError(f"--phase {index}: the configuration has {len(config.phases)} phases, from 0")
    interrupt = Interrupt()
    _check_apart(folders, out, cache)
    _check_files(config, begun=False)
    training = prepare(config, folders, out, cache or out / "cache", interrupt, say)
    with interrupt.listening(), no_workers_left():
        phase = config.phases[index]
        network = _placed(first_network(training), training)
        network = schedule.with_stages(network, phase.stages, config.run.seed + index)
        learn, _ = phase_learner(training, index, network, Ending())
        with _fitting_into_memory(index, phase):
            found = _find(phase, learn, training)
        say(f"{phase.name}: learning rate {found:.2e}")
        return found
