"""Several processes with a GPU each, as ``accelerate launch -m trainer`` starts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list
from fastai.callback.core import Callback
from fastai.distributed import DistributedTrainer


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many processes this one is. Every process has to make the same calls in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any of the processes; the same answer in all of them."""
        if self.size == 1:
            return flag
        agreed = torch.tensor(float(flag), device=device)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
        return bool(agreed)

    def from_main(self, value: Any) -> Any:
        """What the main process has."""
        return value if self.size == 1 else broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            PartialState().wait_for_everyone()


def join(device: str) -> tuple[World, str]:
    """The world that this process was started into, and its device: with several processes a GPU for each."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(), device
    state = PartialState(cpu=device == "cpu")
    return World(state.process_index, state.num_processes), str(state.device)


def spread(device: torch.device) -> Callback:
    """Averages gradients over all processes. Batches are not dealt out by it: our sampler does that."""
    # Heads without a weight get no gradient, which the wrapper has to be told of.
    options = DistributedDataParallelKwargs(find_unused_parameters=True)
    return _Spread(sync_bn=False, cpu=device.type == "cpu", kwargs_handlers=[options])


class _Spread(DistributedTrainer):
    def _wrap_dl(self, dl: Any) -> Any:
        return dl
