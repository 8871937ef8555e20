"""What happens around each step of fastai's loop."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback, CancelEpochException, CancelFitException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from srbatch.errors import DestinationError, ExitCode, SrbatchError
from srbatch.network import SuperResolutionNet
from srbatch.outputs.commit import destination_error, whole
from trainer.data import Steps
from trainer.encoder import keep_fixed
from trainer.learner import to_floats
from trainer.losses import reduced

# fastai's own orders: TrainEvalCallback -10, MixedPrecision 10, Recorder 50, ParamScheduler 60.
_AFTER_RECORDER, _LATE = 55, 70
_WORSE = 1.01
"""Times the mean squared error that there would be without a network: from here on that is told."""


GO_ON = (
    "the last checkpoint is from before. Lower the phase's lr and run again; if that comes to the same, its"
    " weights were spoilt already: choose another --out"
)


class TrainingDiverged(SrbatchError):
    """The loss is no longer a number; the last checkpoint, from before, is kept.

    Its weights are numbers, but a training that diverges slowly may have spoilt them.
    """

    exit_code = ExitCode.SOME_FAILED


class Ending(Callback):
    """Why a fit was ended before its time: fastai rewrites messages of exceptions that callbacks raise."""

    def __init__(self) -> None:
        self.error: SrbatchError | None = None

    def end_with(self, error: SrbatchError) -> None:
        """End the fit; :meth:`raise_if_any` raises the error outside of it."""
        self.error = error
        raise CancelFitException

    def raise_if_any(self) -> None:
        """Raise what the fit was ended with."""
        if self.error is not None:
            raise self.error


@contextmanager
def ending_where_unwritable(learner: Any, path: Path) -> Iterator[None]:
    """End the fit with a DestinationError if a file cannot be written."""
    try:
        yield
    except OSError as error:
        learner.ending.end_with(destination_error(error, path))
    except DestinationError as error:
        learner.ending.end_with(error)


class Autocast(Callback):
    """Runs the network and the loss in bf16. fastai's own turns itself off where there is no CUDA."""

    order = 10

    def __init__(self, context: Callable[[], torch.autocast]) -> None:
        self._new = context
        self._context: torch.autocast | None = None

    def before_batch(self) -> None:
        self._context = self._new()
        self._context.__enter__()

    def after_loss(self) -> None:
        self._leave()

    def after_cancel_batch(self) -> None:
        self._leave()

    def after_fit(self) -> None:
        self._leave()  # a fit that was ended before its time passes neither of the above

    def _leave(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None


class FixedNorms(Callback):
    """Keeps every batch norm in eval mode: what is trained is what is released."""

    def before_train(self) -> None:
        keep_fixed(self.model)


class StopWhenNotFinite(Callback):
    """Ends the training before a step that would spoil the weights."""

    run_valid = False

    def __init__(self, agreed: Callable[[bool], bool]) -> None:
        """``agreed`` makes the flag of one process that of all."""
        self._agreed = agreed

    def after_loss(self) -> None:
        if self._agreed(not torch.isfinite(self.loss_grad)):
            where = f"at step {self.train_iter + 1} of this phase"
            self.learn.ending.end_with(
                TrainingDiverged(f"the loss is {self.loss_grad.item()} {where}; {GO_ON}")
            )


class Average(Callback):
    """Exponential moving average of the weights, which is validated and released (Polyak & Juditsky 1992)."""

    order = _AFTER_RECORDER

    def __init__(self, average: AveragedModel) -> None:
        self.average = average

    def after_step(self) -> None:
        self.average.update_parameters(network_of(self.learn))

    def before_validate(self) -> None:
        self._exchange()

    def after_validate(self) -> None:
        self._exchange()

    def _exchange(self) -> None:
        """Swap the values of both, in place, so that the optimiser's parameters stay what they are."""
        with torch.no_grad():
            for mine, theirs in zip(
                network_of(self.learn).state_dict().values(),
                self.average.module.state_dict().values(),
                strict=True,
            ):
                kept = mine.clone()
                mine.copy_(theirs)
                theirs.copy_(kept)


def new_average(network: nn.Module, decay: float) -> AveragedModel:
    """An average that starts as the network is now.

    Over the first updates the decay rises to its value as (1 + n) / (10 + n), so that a short training is not
    averaged with where it began (the rule of TensorFlow's ``ExponentialMovingAverage``).
    """

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        share = 1 - min(decay, (1 + n) / (10 + n))
        if averages[0].is_floating_point():  # they come in groups of one type
            torch._foreach_lerp_(list(averages), list(values), share)  # as torch's own averages do
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def network_of(learner: Any) -> nn.Module:
    """The network within the Learner's model, also where that is spread over processes."""
    model = getattr(learner.model, "module", learner.model)
    network: nn.Module = model.network
    return network


class Position(Callback):
    """Tells the sampler which epoch it is; takes up a fit in the middle where the schedule stood."""

    order = _LATE
    """Recorder begins its line of an epoch before that is skipped."""

    def __init__(self, steps: Steps, epoch: int = 0, step: int = 0, pct_train: float = 0.0) -> None:
        self._steps = steps
        self._from = (epoch, step, pct_train)

    @property
    def done(self) -> tuple[int, int]:
        """(epoch, steps of it) that are done at the end of a batch."""
        return self.epoch, self._first + self.iter + 1

    def before_epoch(self) -> None:
        if self.epoch < self._from[0]:
            raise CancelEpochException

    def before_train(self) -> None:
        epoch, step, pct_train = self._from
        self._first = step if self.epoch == epoch else 0
        if self._first:
            self.learn.pct_train = pct_train
        self.learn.train_iter = self.epoch * len(self._steps) + self._first
        self._steps.begin(self.epoch, self._first)


class Validation(Callback):
    """PSNR of each head over the validation crops, over RGB, clipped as a picture is; higher is better."""

    run_train = False

    def __init__(self) -> None:
        self.psnr: dict[int, float] = {}
        """By scale, in dB, of the last validation: the mean over crops."""
        self.psnr_of: dict[str, float] = {}
        """Of the largest scale, over the crops that suffered each kind of damage; "clean": those of none."""
        self.mean_loss: float = float("nan")
        self.over_base: dict[int, float] = {}
        """By scale: the mean squared error over that of the bicubic enlargement, or at x1 of the input."""
        self._kinds: list[tuple[str, ...]] = []

    def before_validate(self) -> None:
        self._found: dict[int, list[Tensor]] = {}
        self._errors: dict[int, list[Tensor]] = {}
        self._losses: list[Tensor] = []

    def after_batch(self) -> None:
        given, target = to_floats(self.xb[0]), to_floats(self.yb[0])
        self._losses += [self.learn.loss.detach()] * len(target)
        largest = max(self.pred)
        for scale, picture in self.pred.items():
            meant = reduced(target, largest // scale)
            # (2, B): of the network, and of what there would be without it
            mse = torch.stack(
                [
                    (made.clamp(0, 1) - meant).square().mean(dim=(1, 2, 3))
                    for made in (picture, SuperResolutionNet.enlarge(given, scale))
                ]
            )
            self._errors.setdefault(scale, []).append(mse)
            self._found.setdefault(scale, []).append(-10 * mse[0].clamp_min(1e-10).log10())

    def after_validate(self) -> None:
        self.psnr = {scale: float(torch.cat(values).mean()) for scale, values in self._found.items()}
        self.psnr_of = self._by_kind(torch.cat(self._found[max(self._found)]).tolist())
        self.mean_loss = float(torch.stack(self._losses).mean())
        errors = {scale: torch.cat(found, dim=1).mean(dim=1) for scale, found in self._errors.items()}
        # Where the input is the target, there is nothing that a network could do better.
        self.over_base = {scale: float(mine / base) for scale, (mine, base) in errors.items() if base > 0}

    def told(self, scales: Iterable[int]) -> list[str]:
        """Lines for people on heads that did worse than no network would have."""
        return [
            f"x{scale}: over the validation crops the mean squared error is {self.over_base[scale]:.3g} times"
            f" that of {'plain bicubic enlargement' if scale > 1 else 'the untouched input'}. Feature losses"
            " give up some fidelity for texture; otherwise train longer, or lower the rate"
            for scale in scales
            if self.over_base.get(scale, 0.0) > _WORSE
        ]

    def _by_kind(self, psnr: Sequence[float]) -> dict[str, float]:
        """One mean over all kinds would not show that one is unlearnt while another is learnt."""
        if not self._kinds:  # the crops are the same at every validation
            pairs = self.dls.valid.dataset
            self._kinds = [pairs.suffered((number,)) or ("clean",) for number in range(len(psnr))]
        found: dict[str, list[float]] = {}
        for kinds, value in zip(self._kinds, psnr, strict=True):
            for kind in kinds:
                found.setdefault(kind, []).append(value)
        return {kind: sum(values) / len(values) for kind, values in sorted(found.items())}


class Progress(Callback):
    """A bar on the terminal: steps, samples per second, loss, rate.

    Where nobody reads it any more (a pipe's reader has ended) that costs the bar, and not the training.
    """

    order = _LATE

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done = title, total, done
        self._bar: tqdm | None = None

    def before_fit(self) -> None:
        with suppress(OSError):
            self._bar = tqdm(
                total=self._total,
                initial=self._done,
                desc=self._title,
                unit="step",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def after_batch(self) -> None:
        if not self.training or self._bar is None:
            return
        try:
            self._bar.set_postfix(loss=f"{self.smooth_loss.item():.4f}", refresh=False)
            self._bar.update()
        except OSError:
            self._end()

    def after_fit(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
        self._bar = None


class LossLog(Callback):
    """Lines of ``log.csv`` and TensorBoard: every term of the loss, the rate, and samples per second."""

    order = _LATE

    def __init__(self, writer: LogWriter, every: int, phase: str, samples_per_step: int) -> None:
        self._writer, self._every = writer, every
        self._phase, self._samples = phase, samples_per_step

    @property
    def position(self) -> dict[str, float]:
        """Of the writer."""
        return self._writer.position

    def before_train(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._since, self._steps, self._sums = time.monotonic(), 0, dict[str, Tensor]()

    def after_batch(self) -> None:
        if not self.training:
            return
        self._writer.step += 1
        self._writer.samples += self._samples
        self._steps += 1
        terms = {"loss": self.learn.loss.detach(), **self.loss_func.loss.terms}
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0) + value
        if self._writer.step % self._every == 0:
            self._write_steps({name: float(total) / self._steps for name, total in self._sums.items()})
            self._restart()

    def _write(self, kind: str, values: dict[str, float]) -> None:
        with ending_where_unwritable(self.learn, self._writer.path):
            self._writer.write(kind, self._phase, values)

    def _write_steps(self, values: dict[str, float]) -> None:
        seconds = max(time.monotonic() - self._since, 1e-6)
        rate = self._steps * self._samples / seconds
        self._write("train", {**values, "lr": self.opt.hypers[-1]["lr"], "samples_per_s": rate})

    def after_epoch(self) -> None:
        found = self.learn.validation
        if found.psnr:
            scores = {f"psnr_x{scale}": value for scale, value in found.psnr.items()}
            largest = max(found.psnr)
            kinds = {f"psnr_x{largest}_{kind}": value for kind, value in found.psnr_of.items()}
            self._write("valid", {"loss": found.mean_loss, **scores, **kinds})


class LogWriter:
    """The log of a whole run, over all its phases and however often it was interrupted."""

    FIELDS = ("step", "samples", "seconds", "phase", "kind", "name", "value")

    def __init__(self, folder: Path, position: Mapping[str, float]) -> None:
        """Go on from an earlier `position`; lines of later steps, which a kill made void, are dropped.

        Raises:
            DestinationError: the log cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.step, self.samples = (int(position.get(name, 0)) for name in ("step", "samples"))
        self._start = time.monotonic() - position.get("seconds", 0.0)
        self.path = folder / "log.csv"
        try:
            self._begin()
        except OSError as error:
            raise destination_error(error, self.path) from error
        self._board = SummaryWriter(folder / "tensorboard", purge_step=self.step + 1)

    def _begin(self) -> None:
        """Open the table with the lines that are still true; the old one stays until those are written."""
        kept = _rows_up_to(self.path, self.step) if self.path.is_file() else []
        with whole(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.FIELDS)
            writer.writeheader()
            writer.writerows(kept)
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, self.FIELDS)

    @property
    def position(self) -> dict[str, float]:
        """What a new writer needs to go on from here."""
        return {"step": self.step, "samples": self.samples, "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """Of training so far, without the time between interruptions."""
        return time.monotonic() - self._start

    def write(self, kind: str, phase: str, values: dict[str, float]) -> None:
        """A line for each value."""
        row = {"step": self.step, "samples": self.samples, "seconds": round(self.seconds, 1), "phase": phase}
        for name, value in values.items():
            self._csv.writerow({**row, "kind": kind, "name": name, "value": f"{value:.6g}"})
            self._board.add_scalar(f"{kind}/{name}", value, self.step)
        self._file.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()


def _rows_up_to(path: Path, step: int) -> list[dict[str, str]]:
    """Whole lines of steps up to that one; what a kill or a full disk cut off is none."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if _is_whole(row) and int(row["step"]) <= step]


def _is_whole(row: Mapping[str | None, Any]) -> bool:
    try:
        int(row["step"]), int(row["samples"]), float(row["seconds"]), float(row["value"])
    except (TypeError, ValueError):
        return False
    return None not in row
