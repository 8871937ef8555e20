"""The state of a training run on disk: what a kill leaves is what the next start goes on from."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from torch import nn

from srbatch.errors import UsageError
from srbatch.names import show
from srbatch.outputs.commit import destination_error, discard, held, is_temp_name, whole
from trainer.callbacks import ending_where_unwritable, network_of
from trainer.config import completed
from trainer.learner import FINDER_FOLDER

FILE = "checkpoint.pt"
_VERSION = 3
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container")
"""In the text of the RuntimeError that torch reports a full disk with."""


@dataclass(slots=True)
class State:
    """Everything that a resumed run needs to be equal to one that was never interrupted."""

    config: dict[str, Any]
    """The configuration, as JSON has it: a run goes on only as it began."""
    photos: list[tuple[str, int, int]] = field(default_factory=list)
    """Names, heights and widths of its photographs, of which the configuration has the hash."""
    smallest: int = 0
    """Least side of its photographs, pixels: that of the largest crop of the phases that it began with."""
    phase: int = 0
    """Number of the phase that is going on, from 0; the number of phases when all are done."""
    epoch: int = 0
    """Epochs of it that are done."""
    step: int = 0
    """Steps of the next epoch that are done."""
    pct_train: float = 0.0
    """Where the one-cycle schedule stands."""
    network: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] | None = None
    rates: dict[str, float] = field(default_factory=dict)
    """The highest rate of each phase that has begun, found or given."""
    validation: dict[str, float] = field(default_factory=dict)
    """PSNR of the last validation by head, dB."""
    begun: dict[str, Any] = field(default_factory=dict)
    """Name, version, scales and degradations of the weights that it began with; empty: it began afresh."""
    logged: dict[str, float] = field(default_factory=dict)
    """Steps, samples and seconds of the log."""
    rng: dict[str, Any] = field(default_factory=dict)
    release: dict[str, Any] = field(default_factory=dict)
    """What the card of its weights is to say, as JSON has it."""


def save(state: State, folder: Path) -> None:
    """Write the state under its name, whole or not at all.

    Raises:
        DestinationError: the disk is full or cannot be written; the older checkpoint is still there.
    """
    path = folder / FILE
    with written(path), whole(path) as temporary:
        torch.save({"version": _VERSION, **_fields(state)}, temporary)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Within, tensors are written to ``path`` or beside it.

    Raises:
        DestinationError: the disk is full or cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _TORCH_CANNOT_WRITE):
            raise
        cause = error if isinstance(error, OSError) else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise destination_error(cause, path) from error


def _fields(state: State) -> dict[str, Any]:
    """The fields by name, without copying tensors."""
    return {f.name: getattr(state, f.name) for f in fields(state)}


def load(folder: Path) -> State | None:
    """The state of an earlier run in this folder, or None where there is none.

    Raises:
        UsageError: it is damaged, or of another version.
    """
    path = folder / FILE
    return read(path) if path.exists() else None


def read(path: Path) -> State:
    """The state in a file, as :func:`load` reads it.

    Raises:
        UsageError: it is missing, damaged, or of another version.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        version = data.pop("version")
        if version < _VERSION:
            raise UsageError(
                f"{path} is of an older srbatch, whose runs this one cannot go on with; finish the run with"
                " that one, or choose another --out"
            )
        if version > _VERSION:
            raise UsageError(
                f"{path} is of a newer srbatch; update this one to go on with the run, or choose"
                " another --out"
            )
        return State(**data)
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise UsageError(f"{path} cannot be read ({error}); choose another --out, or remove it") from error


def go_on(
    state: State, config: dict[str, Any], folder: Path, photos: Sequence[tuple[str, int, int]] = ()
) -> None:
    """Have the run of a folder go on with a configuration, as JSON has it, and ``photos`` like the state's.

    Raises:
        UsageError: that is another run's.
    """
    old, new = (_fixed(completed(record), state) for record in (state.config, config))
    different = _different(old, new)
    larger = [f"phases.{n}.size" for n, p in enumerate(config["phases"]) if p["size"] > state.smallest]
    if different == ["photos"] and larger:
        raise UsageError(
            f"{folder} holds a run that began with photographs which are too small for {', '.join(larger)};"
            f" lower that to {state.smallest} at most, or choose another --out"
        )
    if different == ["photos"]:
        raise UsageError(
            f"{folder} holds a run that began with other photographs{_changes(state.photos, photos)}. Give it"
            " those that it began with, or choose another --out"
        )
    if different:
        raise UsageError(
            f"{folder} holds a run with other settings ({', '.join(different[:3])}); choose another --out,"
            " or give the settings that it last went on with; learning rates, and phases that have not begun,"
            " may be changed"
        )
    state.config = config


def _changes(old: Sequence[tuple[str, int, int]], new: Sequence[tuple[str, int, int]]) -> str:
    """Which photographs are no more what they were, for people."""
    changes = {
        "gone, changed or not to be read any more": set(old) - set(new),
        "come or changed": set(new) - set(old),
    }
    found = [
        f"{what}: {', '.join(sorted(show(name) for name, *_ in photos)[:3])}"
        + (f" and {len(photos) - 3} more" if len(photos) > 3 else "")
        for what, photos in changes.items()
        if old and photos
    ]
    return f" ({'; '.join(found)})" if found else ""


def _fixed(config: Mapping[str, Any], state: State) -> dict[str, Any]:
    """What of a configuration cannot be changed any more: all but rates and the phases that have not begun.

    The rates that phases ran with are in the state.
    """
    begun = config["phases"][: begun_phases(state)]
    phases = [{key: value for key, value in phase.items() if key != "lr"} for phase in begun]
    return {**config, "phases": dict(enumerate(phases))}


def _different(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            d for key in keys for d in _different(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [path]


def begun_phases(state: State) -> int:
    """How many phases have begun, those that are done among them."""
    return state.phase + (state.optimiser is not None)


def stages(state: State) -> int:
    """Number of x2 stages that the network has by now."""
    return sum(name.startswith("heads.") and name.endswith(".weight") for name in state.network) - 1


def averaged(state: State) -> dict[str, torch.Tensor]:
    """The averaged weights by the network's own names."""
    prefix = "module."
    return {name.removeprefix(prefix): t for name, t in state.average.items() if name.startswith(prefix)}


@contextlib.contextmanager
def owned(folder: Path, *, main: bool) -> Iterator[None]:
    """Hold the folder of a run; of several processes of one run, the main one does.

    Raises:
        LockedError: another run writes to it.
        DestinationError: the folder cannot be made.
    """
    refusal = f"another process trains into {folder}; wait for it to end, or choose another --out"
    with held(folder, lambda: refusal) if main else contextlib.nullcontext():
        if main:
            _clear(folder)
        yield


def _clear(folder: Path) -> None:
    """Remove what a kill left of files that were being written: checkpoints are large."""
    for path in folder.iterdir():
        if is_temp_name(path.name):
            discard(path)
    shutil.rmtree(folder / FINDER_FOLDER, ignore_errors=True)


def is_finite(network: nn.Module) -> bool:
    """Whether all weights and statistics are numbers."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


class Checkpoints(Callback):
    """Saves the state every few minutes, at the end of each epoch, and when the run is to stop."""

    order = 80
    """After everything else of a step is done."""

    def __init__(self, state: State, folder: Path, minutes: float, *, write: bool) -> None:
        """Of several processes one is to ``write``; the others only stop with it."""
        self._state, self._folder, self._write = state, folder, write
        self._every_s = minutes * 60
        self._last = time.monotonic()

    def after_batch(self) -> None:
        stop = self.learn.stop
        # Gradients that were added up are not saved, so only where there are none.
        if not self.training or not stop.whole:
            return
        if stop.pending or time.monotonic() - self._last >= self._every_s:
            epoch, step = self.learn.position.done
            self._save(epoch, step, self.pct_train)
        if stop.pending:
            stop.end()

    def after_epoch(self) -> None:
        if self.learn.validation.psnr:  # not an epoch that was skipped
            self._state.validation = {f"x{scale}": v for scale, v in self.learn.validation.psnr.items()}
            self._save(self.epoch + 1, 0, 0.0)

    def _save(self, epoch: int, step: int, pct_train: float) -> None:
        # A step may spoil the weights before a loss shows it. The next one does, in all processes at once;
        # until then the last checkpoint is the one to keep.
        if not self._write or not is_finite(network_of(self.learn)):
            return
        state = self._state
        state.epoch, state.step, state.pct_train = epoch, step, pct_train
        state.network = network_of(self.learn).state_dict()
        state.average = self.learn.average.average.state_dict()
        state.optimiser = _plain(self.opt.state_dict())
        state.logged = self.learn.loss_log.position
        state.rng = rng_state()
        with ending_where_unwritable(self.learn, self._folder):
            save(state, self._folder)
        self._last = time.monotonic()


def _plain(value: Any) -> Any:
    """Numbers of numpy, which fastai's schedules leave in the optimiser, as Python's: those load safely."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(entry) for entry in value)
    return value.item() if isinstance(value, np.generic) else value


def rng_state() -> dict[str, Any]:
    """Of torch's generators. Pairs need none: theirs follow from their keys."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: dict[str, Any]) -> None:
    """The inverse of :func:`rng_state`."""
    if state:
        torch.set_rng_state(state["cpu"])
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
