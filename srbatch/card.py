"""What a file of weights says about itself: the network's configuration and the model card.

Plain data that goes to JSON and back. torch is not imported here, so that models are listed at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any, Literal, TypeAlias, get_args

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Encoder: TypeAlias = Literal["resnet18", "resnet34", "resnet50"]
ENCODERS: tuple[str, ...] = get_args(Encoder)
MIN_FEATURES, MAX_FEATURES = 1, 1024
MAX_REFINE_BLOCKS = 64
MAX_STAGES = 3
MIN_LEVELS, MAX_LEVELS = 4, 5
MIN_DECODER, MAX_DECODER = 8, 1024
STRIDE = 32
"""Height and width of what the network is given are multiples of it: the encoder halves up to five times."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of RGB in [0, 1] that torchvision's networks were trained with."""
NAME = r"[a-z0-9][a-z0-9-]*"
"""Pattern of names: lower-case letters, digits and hyphens."""
MAX_MARGIN_PX = 64
"""Most that halo and ramp may take together; beyond it tiles are mostly waste and the network is at fault."""

FAITHFUL_DEGRADATIONS = frozenset({"downsampling", "jpeg", "noise", "blur"})
"""Undoing these sharpens what is there; undoing any other (holes, text, scratches) makes picture up."""
UNKNOWN_DEGRADATIONS = "unknown"
"""Stands for what no record tells: what comes from such a network is never called faithful."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything that fixes the shape of a :class:`srbatch.network.SuperResolutionNet`.

    Raises:
        ValueError: a field is out of its range; the message names it.
    """

    encoder: str = "resnet34"
    """One of `ENCODERS`."""
    features: int = 64
    """Channels of the feature maps that the heads read."""
    refine_blocks: int = 4
    """Residual blocks on the low-resolution grid, behind the U-Net."""
    stages: int = 2
    """Number of x2 stages: 0 gives the head x1; 2 gives x1, x2 and x4; at most 3."""
    blur: bool = False
    """Whether each x2 stage averages neighbours behind its shuffle, which keeps a grid of 2 px out."""
    levels: int = MAX_LEVELS
    """How often the encoder halves; 4 leaves its last layer out, most of its parameters."""
    decoder: int | None = None
    """Most channels that a step of the decoder gives; None is as many as fastai's has."""
    replaces: bool = False
    """Whether the head x1, the only one then, says how much of each pixel to replace, and by what."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    """Normalisation of RGB in [0, 1]."""

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder is {self.encoder!r}, not one of {', '.join(ENCODERS)}")
        for name, low, high in (
            ("features", MIN_FEATURES, MAX_FEATURES),
            ("refine_blocks", 0, MAX_REFINE_BLOCKS),
            ("stages", 0, MAX_STAGES),
            ("levels", MIN_LEVELS, MAX_LEVELS),
            ("decoder", MIN_DECODER, MAX_DECODER),
        ):
            value = getattr(self, name)
            if name == "decoder" and value is None:
                continue
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}, not an integer from {low} to {high}")
        for name in ("blur", "replaces"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not true or false")
        if self.replaces and self.stages:
            raise ValueError(f"stages is {self.stages}: a network that replaces pixels gives x1 alone")
        known = all(type(n) in (int, float) and isfinite(n) for n in (*self.mean, *self.std))
        if not known or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must have 3 numbers each, std above 0")

    @property
    def scales(self) -> tuple[int, ...]:
        """The factor of each head, smallest first."""
        return tuple(2**stage for stage in range(self.stages + 1))


_UNMENTIONED: Mapping[str, Json] = {"blur": False, "levels": MAX_LEVELS, "decoder": None, "replaces": False}
"""Fields of a configuration that came after the first files were released, and what those are."""


def listed(scales: Iterable[int]) -> str:
    """Factors for people: x1, x2."""
    return ", ".join(f"x{scale}" for scale in scales)


@dataclass(frozen=True, slots=True)
class Card:
    """The model card, stored in the header of the file that it describes.

    Raises:
        ValueError: a field is out of its range; the message names it.
    """

    name: str
    """What ``--model`` takes: lower-case letters, digits and hyphens."""
    version: str
    description: str
    licence: str
    config: NetworkConfig
    scales: tuple[int, ...]
    """Factors of the heads that were trained, smallest first."""
    halo_px: int
    """What each inner side of a tile throws away, on the input grid; measured on these weights."""
    ramp_px: int
    """What each inner side of a tile blends with its neighbour, inside of the halo, on the input grid."""
    degradations: tuple[str, ...] = ()
    """Names of what it learnt to undo, `FAITHFUL_DEGRADATIONS` or others."""
    training: Mapping[str, Json] = field(default_factory=dict)
    """The training record: data, samples, hardware, time, loss, date."""
    metrics: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise ValueError(f"name is {self.name!r}, not lower-case letters, digits and hyphens")
        if not self.scales or not set(self.scales) <= set(self.config.scales):
            raise ValueError(f"scales are {self.scales}, the network's heads {self.config.scales}")
        if any(type(number) is not int for number in (*self.scales, self.halo_px, self.ramp_px)):
            raise ValueError(
                f"scales {self.scales}, halo {self.halo_px!r} and ramp {self.ramp_px!r}: not whole numbers"
            )
        if min(self.halo_px, self.ramp_px) < 0 or self.halo_px + self.ramp_px > MAX_MARGIN_PX:
            raise ValueError(
                f"halo {self.halo_px} px and ramp {self.ramp_px} px: 0 to {MAX_MARGIN_PX} together"
            )

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def reach(self) -> int:
        """The largest factor that it gives: that of two passes, one after the other."""
        return max(self.scales) ** 2

    @property
    def generative(self) -> bool:
        """Whether it may invent or remove things: it learnt to, or no record says that it did not."""
        return not FAITHFUL_DEGRADATIONS.issuperset(self.passed_on)

    @property
    def passed_on(self) -> tuple[str, ...]:
        """The degradations that a network made from this one has learnt as well."""
        recorded = bool(self.training and self.degradations)
        return self.degradations if recorded else (*self.degradations, UNKNOWN_DEGRADATIONS)

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON data; :meth:`from_json` is the inverse.

        What the first files did not know of is mentioned only where it differs from what they are: they come
        back as the same bytes.
        """
        data = asdict(self)
        for name, usual in _UNMENTIONED.items():
            if data["config"][name] == usual:
                del data["config"][name]
        return data

    @classmethod
    def from_json(cls, data: Any) -> Card:
        """Build a card from parsed JSON. Keys that this version does not know are left out.

        Raises:
            ValueError: something is missing, of the wrong type or out of its range.
        """
        try:
            config = _known(NetworkConfig, {**_UNMENTIONED, **data["config"]})
            card = _known(cls, data)
            config |= {"mean": tuple(config["mean"]), "std": tuple(config["std"])}
            card |= {"config": NetworkConfig(**config)}
            card |= {name: tuple(card[name]) for name in ("scales", "degradations")}
            return cls(**card)
        except (KeyError, TypeError) as error:
            raise ValueError(f"card is incomplete or malformed: {error}") from error


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: data[f.name] for f in fields(kind)}
