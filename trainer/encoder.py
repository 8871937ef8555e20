"""The first weights: an ImageNet encoder, whole or in part, and batch norm that fits the photographs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srbatch.errors import WeightsError
from srbatch.network import ResNetEncoder, SuperResolutionNet
from trainer.tensors import download, load_tensors

IMAGENET, RANDOM = "imagenet", "random"
_LAST_NORMS = ("bn3", "bn2")
_STEM = "stem"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What of an encoder came out of a file."""

    found: tuple[str, ...]
    """Names of tensors."""
    missing: tuple[str, ...]
    """Names of the modules that the file did not have, or not with the rest of their block."""


def initialise(encoder: ResNetEncoder, name: str, source: str) -> Loaded:
    """Fill in an encoder from torchvision (``imagenet``), not at all (``random``) or from a file.

    A file need not hold everything, nor be of the same depth: those of ResNet-18 serve the first two blocks
    of each layer of ResNet-34. Of a residual block all counts or nothing. One that is not found starts by
    passing on its shortcut: the weight of its last batch norm is 0 (Goyal et al. 2017, arXiv:1706.02677,
    section 5.1).

    Raises:
        WeightsError: nothing fits, or torchvision's weights cannot be had.
    """
    if source == RANDOM:
        return Loaded((), ())
    state = _from_torchvision(name) if source == IMAGENET else load_tensors(Path(source))
    mine = encoder.state_dict()
    fitting = {key: t for key, t in state.items() if key in mine and t.shape == mine[key].shape}
    absent = {_unit(key) for key in mine if key not in fitting and not key.endswith("num_batches_tracked")}
    if _STEM in absent:
        raise WeightsError(
            f"{source} has no conv1 and bn1 that fit {name}: it holds no ResNet by torchvision's names"
        )
    found = {key: t for key, t in fitting.items() if _unit(key) not in absent}
    encoder.load_state_dict(found, strict=False)
    for unit in absent:
        block = encoder.get_submodule(unit)
        last = next(getattr(block, norm) for norm in _LAST_NORMS if hasattr(block, norm))
        nn.init.zeros_(last.weight)
    missing = {key.rpartition(".")[0] for key in mine if _unit(key) in absent}
    return Loaded(tuple(sorted(found)), tuple(sorted(missing)))


def _unit(key: str) -> str:
    """What is of use as a whole only: the residual block that a tensor is part of, or the stem."""
    block = re.match(r"layer\d\.\d+", key)
    return block[0] if block else _STEM


def _from_torchvision(name: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    published = get_model_weights(name)["DEFAULT"]
    return download(published, "give a file with start.encoder (--encoder-weights), or random")


# ---- batch norm -------------------------------------------------------------------------------------------


def norms(module: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Every batch norm below a module, by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}


def keep_fixed(module: nn.Module) -> None:
    """Put every batch norm into eval mode: statistics are used as they are and not changed."""
    for norm in norms(module).values():
        norm.eval()


def recalibrate(network: SuperResolutionNet, loaded: Loaded, pictures: Iterable[Tensor]) -> None:
    """Measure the statistics of every batch norm on photographs, before the first step.

    Those that came out of a file keep what they compute: new mean m and variance v are made up for by
    ``weight *= sqrt((v + eps) / (var + eps))`` and ``bias += old weight (m - mean) / sqrt(var + eps)``. A
    batch norm that was folded into its convolution (weight 1, mean 0, variance 1) would be undone by the
    first step otherwise: it would be given statistics that its weight knows nothing of. Fresh ones are set
    to what they see. The network is in eval mode afterwards.

    Args:
        pictures: batches (B, 3, H, W), RGB in [0, 1], H and W multiples of 32; they are gone through twice.
    """
    batches = list(pictures)
    of_file = {f"body.encoder.{name.rpartition('.')[0]}" for name in loaded.found}
    all_norms = norms(network)
    network.eval()
    # Fresh ones first: what the others compute does not change, but what they see follows from the fresh.
    _set_to_seen(network, [norm for name, norm in all_norms.items() if name not in of_file], batches)
    _keep_function(network, [norm for name, norm in all_norms.items() if name in of_file], batches)


def _set_to_seen(network: SuperResolutionNet, fresh: list[nn.BatchNorm2d], batches: list[Tensor]) -> None:
    momenta = [norm.momentum for norm in fresh]
    for norm in fresh:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for batch in batches:
            network.residuals(batch, 1)
    for norm, momentum in zip(fresh, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _keep_function(network: SuperResolutionNet, kept: list[nn.BatchNorm2d], batches: list[Tensor]) -> None:
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {norm: [] for norm in kept}

    def note(norm: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        x = inputs[0].double()  # (B, C, H, W)
        count = x.new_full((x.shape[1],), x.numel() / x.shape[1])
        sums[norm].append(torch.stack([count, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))]))  # type: ignore[index]

    with _hooked(kept, note), torch.no_grad():
        for batch in batches:
            network.residuals(batch, 1)
        for norm, seen in sums.items():
            count, total, squares = torch.stack(seen).sum(0)
            mean = total / count
            variance = (squares / count - mean.square()).clamp_min(0)
            old_mean, old_variance = _statistics(norm)
            gain = norm.weight / (old_variance + norm.eps).sqrt()
            norm.bias.add_(gain * (mean - old_mean))
            norm.weight.copy_(gain * (variance + norm.eps).sqrt())
            old_mean.copy_(mean)
            old_variance.copy_(variance)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


@contextmanager
def _hooked(modules: list[nn.BatchNorm2d], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
