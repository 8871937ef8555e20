"""The weights of a run: known by their hash at once, made into a network when the first photo needs one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from srbatch import weights
from srbatch.card import Card
from srbatch.errors import UsageError, WeightsError
from srbatch.metadata.provenance import SOURCE_TYPES
from srbatch.options import MAX_FACTOR, Options

if TYPE_CHECKING:
    from torch import nn

    from srbatch.network import SuperResolutionNet
    from srbatch.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of weights that a run will use, by what it held as the run began."""

    path: Path
    card: Card
    sha256: str
    """Of the file, in hexadecimal."""

    @classmethod
    def of(cls, model: str) -> ModelFile:
        """Find a model by its name or path, and read its card.

        Raises:
            WeightsError: it is missing or damaged.
        """
        path = weights.find(model)
        return cls(path, *weights.identify(path))

    def network(self) -> SuperResolutionNet:
        """Load the network.

        Raises:
            WeightsError: the weights are damaged, or others than the run began with.
        """
        loaded = weights.load(self.path)
        if loaded.sha256 != self.sha256:  # else outputs and ledger would name weights that made none of them
            raise WeightsError(f"weights {self.path} were replaced since the run began; start it again")
        return loaded.network

    def __str__(self) -> str:
        return str(self.card)


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a photo goes through a network."""

    largest_head: int
    """The largest factor that one pass gives."""
    first: bool = False
    """Whether there is one before, at the photo's own size."""

    def between(self, factor: float) -> list[int]:
        """The factors at which a photo lies between two passes, where it is enlarged by ``factor``."""
        return [1] * self.first + [self.largest_head] * (factor > self.largest_head)


class Model:
    """The weights of a run and what it wants of them. torch is loaded with :attr:`upscaler`, not before."""

    first: ModelFile | None = None
    """What is run before, at the photo's own size."""

    def __init__(self, options: Options) -> None:
        """Find the weights and read their cards.

        Raises:
            WeightsError: they are missing or damaged.
            UsageError: they do not reach the factor that was asked for.
        """
        self._options = options
        self._file = ModelFile.of(options.model)
        self.path, self.card, self.sha256 = self._file.path, self._file.card, self._file.sha256
        scale = options.size.scale
        if scale is not None and scale > self.reach:
            raise UsageError(
                f"--scale {scale:g}: the model {self._file} reaches {self.reach};"
                f" use --scale {self.reach}, or another --model{self._instead()}"
            )
        if options.first is not None:
            self.first = ModelFile.of(options.first)
            if 1 not in self.first.card.scales:
                raise UsageError(
                    f"--first {options.first}: the model {self.first} does not serve x1, as what is run first"
                    " has to; choose another"
                )

    def _instead(self) -> str:
        """What to do with a model for x1 alone where more is asked."""
        if self.reach > 1:
            return ""
        first = f"--first {self._options.model} --scale ..."
        return f"; to enlarge what it makes, put it first, in place of --model: {first}"

    def __str__(self) -> str:
        return f"{self.first}, then {self._file}" if self.first else str(self._file)

    @property
    def reach(self) -> int:
        """The largest factor that photos can be enlarged by."""
        return min(self.card.reach, MAX_FACTOR)

    @property
    def passes(self) -> Passes:
        """How often a photo goes through a network."""
        return Passes(max(self.card.scales), first=self.first is not None)

    @property
    def source_type(self) -> str:
        """IPTC's digital source type of what this model makes, as a URI (release 2024-10-23)."""
        generative = self.card.generative or (self.first is not None and self.first.card.generative)
        return SOURCE_TYPES + (
            "compositeWithTrainedAlgorithmicMedia" if generative else "algorithmicallyEnhanced"
        )

    @property
    def upscaler(self) -> Upscaler:
        """The network on the run's first device; raises as :attr:`upscalers`."""
        return self.upscalers[0]

    @cached_property
    def upscalers(self) -> list[Upscaler]:
        """The network on each of the run's devices.

        Raises:
            WeightsError: the weights are damaged, or others than the run began with.
            DeviceError: there is no such device.
            UsageError: the device cannot do what was asked.
        """
        from srbatch.upscaling.hardware import pick_devices

        options = self._options
        devices = pick_devices("cpu" if options.engine == "openvino" else options.device)
        return [self._on(str(device)) for device in devices]

    def _on(self, device: str) -> Upscaler:
        first = self._upscaler(self.first, device, scales=(1,)) if self.first else None
        return self._upscaler(self._file, device, scales=self.card.scales, first=first)

    def _upscaler(
        self, file: ModelFile, device: str, *, scales: tuple[int, ...], first: Upscaler | None = None
    ) -> Upscaler:
        from srbatch.upscaling.upscaler import Upscaler

        options = self._options
        return Upscaler(
            _in_engine(options.engine, file.network(), device),
            scales=scales,
            halo=file.card.halo_px,
            ramp=file.card.ramp_px,
            device=device,
            precision=options.precision,
            tile=options.tile,
            batch=options.batch,
            strength=options.strength,
            tta=options.tta,
            first=first,
        )


def _in_engine(engine: str, network: nn.Module, device: str) -> nn.Module:
    """The network as the engine runs it; ``auto`` is OpenVINO on a CPU for which it is installed."""
    from srbatch.upscaling import openvino_engine
    from srbatch.upscaling.hardware import pick_device

    if engine == "openvino":
        return openvino_engine.OpenVinoNetwork(network, required=True)
    if engine == "auto" and pick_device(device).type == "cpu" and openvino_engine.is_preferred():
        return openvino_engine.OpenVinoNetwork(network, required=False)
    return network
