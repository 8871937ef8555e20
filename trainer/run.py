"""A whole training: phase after phase, from wherever an earlier start of the same run got to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.learner import Learner

from srbatch import weights
from srbatch.card import listed
from srbatch.discovery.apart import check_outside
from srbatch.errors import DeviceError, UsageError
from srbatch.network import SuperResolutionNet
from trainer import checkpoint, distributed, learner, losses, schedule
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
from trainer.data import Steps, loaders, no_workers_left
from trainer.exporting import release
from trainer.exporting.export import check_apart
from trainer.interruption import EndAtOnce, Interrupt, Stop
from trainer.panels import Panels
from trainer.plots import plot_losses
from trainer.preparation import Say, Training, begin, check_files, first_network, placed, prepare


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
    check_outside(folders, {"--out": out, "--cache": cache})
    with checkpoint.owned(out, main=world.main):
        earlier = checkpoint.load(out)
        check_files(config, begun=earlier is not None)
        if earlier is None and config.start.weights is not None:
            check_apart(out / f"{config.release.name}.safetensors", weights.find(str(config.start.weights)))
        smallest = earlier.smallest if earlier else 0
        training = prepare(config, folders, out, cache or out / "cache", interrupt, say, smallest=smallest)
        state, network = begin(training, earlier)
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
    check_outside(folders, {"--out": out, "--cache": cache})
    check_files(config, begun=False)
    training = prepare(config, folders, out, cache or out / "cache", interrupt, say)
    with interrupt.listening(), no_workers_left():
        phase = config.phases[index]
        network = placed(first_network(training), training)
        network = schedule.with_stages(network, phase.stages, config.run.seed + index)
        learn, _ = phase_learner(training, index, network, Ending())
        with _fitting_into_memory(index, phase):
            found = _find(phase, learn, training)
        say(f"{phase.name}: learning rate {found:.2e}")
        return found
