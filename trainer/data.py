"""Pairs made on the fly: each follows from the seed and its number alone, whatever process makes it."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from srbatch.errors import PhotoChanged
from trainer.config import Config, Phase
from trainer.degradations.degrade import Degradations, degrade_pair
from trainer.degradations.reduction import downsample
from trainer.photos import Store

if TYPE_CHECKING:
    from fastai.data.core import DataLoaders

log = logging.getLogger(__name__)

_TRIED = 10
"""Photos that are looked for in the place of one that cannot be read any more."""
Key = tuple[int, ...]
"""Phase, epoch and number of a training crop; one number for a crop of the validation."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the bytes of a pair, beside its key and the photos."""

    seed: int
    size: int
    """Side of the target, pixels."""
    scale: int
    """Of the target over the input."""
    reduce: tuple[float, float]
    flip: bool
    degradations: Degradations


class PhotosGone(PhotoChanged):
    """So many photos in a row cannot be read any more that those of a training are away, as a disk may be."""

    def __init__(self, message: str) -> None:
        """From a worker, torch gives the traceback as the message, which ends with ours."""
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """(input (3, size / scale, size / scale), target (3, size, size)), both uint8 RGB.

    Bytes cross to the device as integers, a quarter of what floats take. In the place of a photo that cannot
    be read any more another is taken, which is told.
    """

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self._store = store
        self._recipe = recipe
        self._told: set[str] = set()

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        given, target, _ = self._made(key)
        return _tensor(given), _tensor(target)

    def suffered(self, key: Key) -> tuple[str, ...]:
        """The kinds of damage of a pair's input, in the order in which they struck."""
        return self._made(key)[2]

    def _made(self, key: Key) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[str, ...]]:
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, *key])
        target = self._crop(rng)
        if recipe.flip:
            target = _oriented(target, rng)
        small = downsample(to_floats(target), recipe.scale, rng, recipe.degradations.kernel)
        given, kept, struck = degrade_pair(small, rng, recipe.degradations)
        if recipe.degradations.kept:  # then the scale is 1
            target = to_integers(kept)
        return to_integers(given), target, struck

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A square of `size` px from anywhere in any photo, taken larger and reduced where that is asked.

        Raises:
            PhotosGone: of `_TRIED` photos none can be read any more.
        """
        for _ in range(_TRIED):
            try:
                return self._crop_of_any(rng)
            except PhotoChanged as error:
                last = str(error)
                if last not in self._told:  # once in each process that makes pairs
                    self._told.add(last)
                    log.warning("%s; crops of other photos are taken instead", last)
        raise PhotosGone(
            f"{last}; {_TRIED} photos in a row cannot be read: see that they are there again, and run the"
            " same command again to go on from the last checkpoint"
        )

    def _crop_of_any(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        size = self._recipe.size
        index = int(rng.integers(len(self._store)))
        height, width = self._store.size(index)
        low, high = self._recipe.reduce
        side = round(size * min(rng.uniform(low, high), min(height, width) / size))
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        pixels = self._store.read(index)[top : top + side, left : left + side]
        if side == size:
            return np.array(pixels)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def _oriented(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the eight ways to lay down a square, each as likely."""
    turned = np.rot90(pixels, int(rng.integers(4)))
    return turned[:, ::-1] if rng.integers(2) else turned


def to_floats(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8 bits to [0, 1], C-contiguous."""
    return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)


def to_integers(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] to 8 bits, rounded; what lies beyond is clipped."""
    return np.rint(pixels * 255).clip(0, 255).astype(np.uint8)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class Steps(Sampler[list[Key]]):
    """The keys of each batch of an epoch, for one of ``world`` processes; it can begin in the middle.

    The processes share the crops of an epoch, so that more of them need fewer steps.
    """

    def __init__(self, phase_index: int, phase: Phase, *, rank: int = 0, world: int = 1) -> None:
        self._phase_index = phase_index
        self._batch = phase.batch
        self._count = phase.steps_per_epoch(world)
        self._rank, self._world = rank, world
        self._epoch = self._first = 0

    def begin(self, epoch: int, step: int = 0) -> None:
        """The next iteration is that epoch, from that step on."""
        self._epoch, self._first = epoch, step

    def __len__(self) -> int:
        """Steps of a whole epoch, wherever it begins: schedules are laid out over these."""
        return self._count

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self._first, self._count):
            start = (step * self._world + self._rank) * self._batch
            yield [(self._phase_index, self._epoch, start + i) for i in range(self._batch)]


class _Fixed(Sampler[list[Key]]):
    """The validation's batches: the same crops in every epoch."""

    def __init__(self, count: int, batch: int) -> None:
        self._batches: list[list[Key]] = [
            [(number,) for number in range(first, min(first + batch, count))]
            for first in range(0, count, batch)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)


class Loader(DataLoader[tuple[Tensor, Tensor]]):
    """torch's loader with what fastai asks of one: to know the device that its batches go to."""

    device = torch.device("cpu")

    def to(self, device: torch.device) -> Loader:
        """Note the device; fastai moves the batches."""
        self.device = device
        return self


@dataclass(frozen=True, slots=True)
class Stores:
    """The decoded photographs of both sides of the split."""

    train: Store
    valid: Store


def recipe(config: Config, phase: Phase) -> Recipe:
    """What the pairs of a phase are made by."""
    data = config.data
    degradations = config.degradations_of(phase)
    return Recipe(config.run.seed, phase.size, phase.scale, data.reduce, data.flip, degradations)


def loaders(
    config: Config, index: int, stores: Stores, device: torch.device, *, rank: int = 0, world: int = 1
) -> tuple[DataLoaders, Steps]:
    """Training and validation batches of a phase, and the sampler that says where training begins."""
    from fastai.data.core import DataLoaders  # not above: workers import this module, and need none of it

    phase = config.phases[index]
    made_by = recipe(config, phase)
    steps = Steps(index, phase, rank=rank, world=world)
    workers = config.data.workers
    train = Loader(
        Pairs(stores.train, made_by),
        batch_sampler=steps,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_main_process,
        pin_memory=device.type == "cuda",
        # Spawned: a fork would copy the locks of torch's threads in whatever condition they are.
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )
    fixed = _Fixed(config.data.valid_crops, phase.batch)
    valid = Loader(Pairs(stores.valid, made_by), batch_sampler=fixed)
    return DataLoaders(train, valid, device=device), steps


def _leave_signals_to_the_main_process(_: int) -> None:
    """In a worker: what ends the run reaches it too, and the step in hand still needs its pairs."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows lacks the last
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def no_workers_left() -> Iterator[None]:
    """End workers that were begun within: they ignore the signal that `multiprocessing` would end them with.

    Loaders end theirs when they are freed, but an error that is on its way keeps them alive.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        left = set(multiprocessing.active_children()) - before
        if left:
            with _ends_of_children_unseen():
                for worker in left:
                    worker.kill()
                    worker.join()


@contextmanager
def _ends_of_children_unseen() -> Iterator[None]:
    """Without torch's handler, which raises an error wherever the program is when a worker is killed."""
    number = getattr(signal, "SIGCHLD", None)  # Windows has none
    if number is None:
        yield
        return
    handler = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, handler)


def sample_crops(store: Store, size: int, numbers: Sequence[int], seed: int) -> list[NDArray[np.float32]]:
    """Clean crops (size, size, 3) in [0, 1] for sheets, the same for the same numbers."""
    pairs = Pairs(store, Recipe(seed, size, 1, (1.0, 1.0), False, Degradations()))
    return [to_floats(pairs[(number,)][1].permute(1, 2, 0).numpy()) for number in numbers]
