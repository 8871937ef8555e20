"""The weights of a run: known by their hash at once, made into a network when the first photo needs one."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from srbatch import weights
from srbatch.errors import UsageError, WeightsError
from srbatch.options import MAX_FACTOR, Options
from srbatch.provenance import SOURCE_TYPES

if TYPE_CHECKING:
    from torch import nn

    from srbatch.upscaler import Upscaler


class Model:
    """A file of weights and what a run wants of it. torch is loaded with :attr:`upscaler`, not before."""

    def __init__(self, options: Options) -> None:
        """Find the weights and read their card.

        Raises:
            WeightsError: they are missing or damaged.
            UsageError: they do not reach the factor that was asked for.
        """
        self._options = options
        self.path: Path = weights.find(options.model)
        self.card = weights.read_card(self.path)
        scale = options.size.scale
        if scale is not None and scale > self.reach:
            raise UsageError(
                f"--scale {scale:g}: the model {self.card.name} {self.card.version} reaches {self.reach};"
                f" use --scale {self.reach}, or another --model"
            )
        try:
            with self.path.open("rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise WeightsError(f"weights {self.path} cannot be read: {error.strerror}") from error

    @property
    def reach(self) -> int:
        """The largest factor that photos can be enlarged by."""
        return min(self.card.reach, MAX_FACTOR)

    @property
    def largest_head(self) -> int:
        """The largest factor that one pass gives."""
        return max(self.card.scales)

    @property
    def source_type(self) -> str:
        """IPTC's digital source type of what this model makes, as a URI (release 2024-10-23)."""
        name = "compositeWithTrainedAlgorithmicMedia" if self.card.generative else "algorithmicallyEnhanced"
        return SOURCE_TYPES + name

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
        from srbatch.hardware import pick_devices

        options = self._options
        devices = pick_devices("cpu" if options.engine == "openvino" else options.device)
        return [self._on(str(device)) for device in devices]

    def _on(self, device: str) -> Upscaler:
        from srbatch.upscaler import Upscaler

        options, loaded = self._options, weights.load(self.path)
        if loaded.sha256 != self.sha256:  # else outputs and ledger would name weights that made none of them
            raise WeightsError(f"weights {self.path} were replaced since the run began; start it again")
        return Upscaler(
            _in_engine(options.engine, loaded.network, device),
            scales=self.card.scales,
            halo=self.card.halo_px,
            ramp=self.card.ramp_px,
            device=device,
            precision=options.precision,
            tile=options.tile,
            batch=options.batch,
            strength=options.strength,
            tta=options.tta,
        )


def _in_engine(engine: str, network: nn.Module, device: str) -> nn.Module:
    """The network as the engine runs it; ``auto`` is OpenVINO on a CPU for which it is installed."""
    from srbatch import openvino_engine
    from srbatch.hardware import pick_device

    if engine == "openvino":
        return openvino_engine.OpenVinoNetwork(network, required=True)
    if engine == "auto" and pick_device(device).type == "cpu" and openvino_engine.is_preferred():
        return openvino_engine.OpenVinoNetwork(network, required=False)
    return network
