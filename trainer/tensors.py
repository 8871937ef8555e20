"""Tensors by name from elsewhere: safetensors, torchvision's ``.pth``, or torchvision's own downloads."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srbatch.errors import WeightsError

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
)
"""What torch raises on files that are not its own, or no longer."""


def download(weights: WeightsEnum, otherwise: str) -> Mapping[str, Tensor]:
    """What torchvision publishes, from its cache or the network.

    Args:
        otherwise: what people can do where it cannot be had.

    Raises:
        WeightsError: no network, or what came is not what was published.
    """
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # torch reports a wrong hash as a RuntimeError
        raise WeightsError(f"{weights} cannot be downloaded ({error}); {otherwise}") from error
    return state


def load_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file in fp32 (integers stay), on the CPU. No code in it is run.

    Raises:
        WeightsError: it cannot be read or does not hold tensors by name.
    """
    import safetensors
    import safetensors.torch

    try:
        if file.suffix == ".safetensors":
            state: Mapping[str, Tensor] = safetensors.torch.load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, *_DAMAGED) as error:
        raise WeightsError(f"{file} is not a file of tensors, or is damaged: {error}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(t, Tensor) for name, t in state.items()
    ):
        raise WeightsError(f"{file} does not hold tensors by name, as a state dict does")
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
