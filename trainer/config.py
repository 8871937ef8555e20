"""What a training run is asked to do: strict and validated; every value has a range and a meaning."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from srbatch.card import (
    MAX_DECODER,
    MAX_FEATURES,
    MAX_LEVELS,
    MAX_REFINE_BLOCKS,
    MIN_DECODER,
    MIN_FEATURES,
    MIN_LEVELS,
    NAME,
    STRIDE,
    Encoder,
    NetworkConfig,
)
from srbatch.weights import Storage
from trainer.degradations.degrade import Degradations

VGG_BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions in each of VGG-16's five blocks, between which are its max-pools."""

LAYERS = tuple(f"relu{b}_{c}" for b, depth in enumerate(VGG_BLOCKS, 1) for c in range(1, depth + 1))
"""The activations of VGG-16 that a loss may name, from the input on."""


class Strict(BaseModel):
    """Base of all tables: nothing unknown is accepted, no number is infinite, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(Strict):
    """The network, but for its number of stages, which follows from the phases."""

    encoder: Encoder = Field(default="resnet34", description="the U-Net's encoder")
    features: int = Field(
        default=64,
        ge=MIN_FEATURES,
        le=MAX_FEATURES,
        description="channels of the feature maps that the heads read",
    )
    refine_blocks: int = Field(
        default=4, ge=0, le=MAX_REFINE_BLOCKS, description="residual blocks behind the U-Net"
    )
    blur: bool = Field(
        default=True,
        description="average neighbours behind the shuffle of each x2 stage: without it, feature losses are"
        " met by a grid of 2 px (16 times the target's energy after 60 steps; 1.1 times with it)",
    )
    levels: int = Field(
        default=MAX_LEVELS,
        ge=MIN_LEVELS,
        le=MAX_LEVELS,
        description="how often the encoder halves; 4 leaves its last layer out",
    )
    decoder: int | None = Field(
        default=None,
        ge=MIN_DECODER,
        le=MAX_DECODER,
        description="most channels that a step of the decoder gives; by default as many as fastai's has",
    )
    replaces: bool = Field(
        default=False,
        description="the head x1, the only one then, says how much of each pixel to replace and by what",
    )
    batch_norm: Literal["fixed", "train"] = Field(
        default="fixed",
        description="fixed: statistics are measured on photos before the first step and kept, so that a step"
        " trains the network that is released; train: the statistics of each batch, as fastai does",
    )

    def with_stages(self, stages: int) -> NetworkConfig:
        """The architecture with that many x2 stages."""
        return NetworkConfig(
            self.encoder,
            self.features,
            self.refine_blocks,
            stages,
            self.blur,
            self.levels,
            self.decoder,
            self.replaces,
        )


class Start(Strict):
    """Where the first weights come from."""

    weights: Path | None = Field(
        default=None, description="weights of srbatch to go on from; then encoder is not read"
    )
    encoder: str = Field(
        default="imagenet",
        description="imagenet (torchvision's, downloaded), random, or a .pth or .safetensors file with"
        " torchvision's names, which need not hold all layers",
    )


class Data(Strict):
    """Which photographs, and how crops are taken from them."""

    valid_percent: float = Field(
        default=5.0, gt=0, lt=100, description="photos kept for validation, by their name"
    )
    valid_crops: int = Field(
        default=64, ge=1, description="crops of the validation photos, the same in every epoch"
    )
    reduce: tuple[float, float] = Field(
        default=(1.0, 1.0),
        description="a crop is taken larger by a factor between these and reduced: sharper, varied",
    )
    flip: bool = Field(default=True, description="mirror and turn crops by multiples of 90 degrees")
    cache_gb: float = Field(
        default=8.0, ge=0, description="decoded pixels kept on disk; what is beyond is decoded anew"
    )
    workers: int = Field(
        default=2, ge=0, description="processes that make pairs; 0 makes them in the main one"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 1 <= self.reduce[0] <= self.reduce[1] <= 8:
            raise ValueError(f"reduce is {self.reduce}: two factors from 1 to 8, the smaller first")
        return self


class Loss(Strict):
    """Weights of the loss's terms; a term with weight 0 is not computed."""

    pixel: float = Field(default=1.0, ge=0, description="weight of the distance of the pixels, in [0, 1]")
    pixel_kind: Literal["l1", "mse"] = Field(
        default="l1", description="mean absolute or mean squared difference"
    )
    colour: float = Field(
        default=0.0,
        ge=0,
        description="weight of the L1 distance of the means over 8 x 8 px of the input, which feature losses"
        " leave free and the median that L1 learns is not",
    )
    layers: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="VGG-16 activations by name (relu1_1 ... relu5_3) and their weights; 0 leaves one out",
    )
    features: float = Field(default=0.0, ge=0, description="weight of the sum of the layers' L1 distances")
    gram: float = Field(
        default=0.0, ge=0, description="weight of the sum of the layers' Gram matrices' L1 distances"
    )
    gram_layer_power: float = Field(
        default=1.0, description="the layer's weight to this power counts in the Gram term"
    )
    normalise: bool = Field(
        default=True,
        description="divide each layer's distance by the target's mean, so that weights mean the same",
    )
    batch_norm: bool = Field(default=False, description="VGG-16 with batch norm in place of the plain one")

    @field_validator("layers")
    @classmethod
    def _exist(cls, layers: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(layers) - set(LAYERS))
        if unknown:
            raise ValueError(f"VGG-16 has no {', '.join(unknown)}; it has {', '.join(LAYERS)}")
        return layers

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.uses_vgg and not self.used_layers:
            raise ValueError("features or gram is above 0, but layers names none, such as relu2_2 = 1.0")
        # A weight that is given as 0 turns off what a preset asks for; one that is not given was forgotten.
        if self.used_layers and not self.uses_vgg and not self.model_fields_set & {"features", "gram"}:
            raise ValueError("layers names some, but neither features nor gram gives their terms a weight")
        if not (self.pixel or self.colour or self.features or self.gram):
            raise ValueError("pixel, colour, features and gram are all 0: there is nothing to learn")
        return self

    @property
    def uses_vgg(self) -> bool:
        """Whether VGG is run."""
        return bool(self.features or self.gram)

    @property
    def used_layers(self) -> tuple[str, ...]:
        """Names of the activations that count."""
        return tuple(name for name, weight in self.layers.items() if weight)


def _rate(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10:
        return value
    if value == "find":
        return value
    raise ValueError(f'a rate between 0 and 10 is meant, or "find" (given: {value!r})')


class Phase(Strict):
    """One fit: a size, a scale, what is trained, for how long, at which rate."""

    name: str = Field(pattern=f"^{NAME}$", description="what logs and panels call it")
    size: int = Field(ge=STRIDE, le=4096, description="pixels of the target crop's side")
    scale: Literal[1, 2, 4, 8] = Field(description="largest head; the network grows to it")
    heads: dict[int, Annotated[float, Field(ge=0)]] | None = Field(
        default=None,
        description="weight of each head's loss; by default 1 for the largest and 0 for the others",
    )
    train: Literal["stage", "decoder", "coarse", "all"] = Field(
        default="all",
        description="stage: the newest stage and its head; decoder: all but the encoder; coarse: the U-Net up"
        " to its last shuffle, which tells what a photo suffers from, and nothing of what mends it at full"
        " resolution; all",
    )
    loss: str = Field(default="default", description="name of one of the losses")
    degradations: Degradations | None = Field(
        default=None, description="in a file, what it has otherwise than the run; by default nothing"
    )
    epochs: int = Field(default=1, ge=1, description="after each one it is validated and a panel drawn")
    samples_per_epoch: int = Field(
        ge=1, description="crops, whatever the number of photos; several devices share them"
    )
    batch: int = Field(ge=1, description="crops per step on each device")
    accumulate: int = Field(default=1, ge=1, description="steps whose gradients are added up for one update")
    lr: Annotated[float | Literal["find"], BeforeValidator(_rate)] = Field(
        default="find", description="the highest rate of the one-cycle schedule"
    )
    spread: float = Field(
        default=1.0,
        ge=1,
        description="the encoder's stem gets the rate divided by this, groups between lie between",
    )
    warm_up: float = Field(default=0.25, gt=0, lt=1, description="share of the phase in which the rate rises")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.size % (STRIDE * self.scale):
            raise ValueError(f"size {self.size} is not a multiple of {STRIDE * self.scale}: {STRIDE} x scale")
        unknown = set(self.heads or ()) - set(self.scales)
        if unknown:
            raise ValueError(f"heads names {sorted(unknown)}; at scale {self.scale} there are {self.scales}")
        if self.heads and not any(self.heads.values()):
            raise ValueError("heads gives every head the weight 0")
        if self.train == "stage" and self.scale not in self.head_weights:
            raise ValueError(
                f"the newest stage is trained, but heads gives its head, {self.scale}, no weight"
            )
        return self

    @property
    def stages(self) -> int:
        """Number of x2 stages of the network."""
        return self.scale.bit_length() - 1

    @property
    def scales(self) -> tuple[int, ...]:
        """Factors of the network's heads, smallest first."""
        return tuple(2**stage for stage in range(self.stages + 1))

    @property
    def head_weights(self) -> dict[int, float]:
        """Weight of the loss of each head that counts."""
        return {k: v for k, v in (self.heads or {self.scale: 1.0}).items() if v}

    def steps_per_epoch(self, processes: int = 1) -> int:
        """Steps of an epoch; the last update is of whole batches, so a few crops more may be seen."""
        crops_per_update = self.batch * self.accumulate * processes
        return -(-self.samples_per_epoch // crops_per_update) * self.accumulate


_Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimiser(Strict):
    """AdamW and what surrounds it."""

    betas: tuple[_Beta, _Beta] = Field(
        default=(0.9, 0.99),
        description="AdamW's; the first is used while a rate is looked for, one-cycle moves it afterwards",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's, the same for all parameters")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradients")
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="decay per update of the average that is released; 0: none"
    )
    lr_decay: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="a rate that is found is at most this times that of the last phase of its kind",
    )


class Run(Strict):
    """Hardware, seeds and how often what is written."""

    seed: int = Field(default=1, ge=0, lt=2**63, description="of crops, degradations and new weights")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where it is native"
    )
    checkpoint_minutes: float = Field(
        default=10.0, gt=0, description="most that a kill costs; each epoch's end is saved too"
    )
    log_every: int = Field(default=20, ge=1, description="steps between lines of log.csv and TensorBoard")
    panel_photos: int = Field(default=4, ge=0, description="validation photos on each epoch's panel")


class Release(Strict):
    """What the card of the exported weights says."""

    name: str = Field(default="mine", pattern=f"^{NAME}$", description="also of the file")
    version: str = Field(default="0.1", description="of these weights")
    description: str = Field(default="Trained with srbatch's trainer.", description="one sentence for people")
    licence: str = Field(
        default="see the licences of the training photographs", description="under which they are given away"
    )
    storage: Storage = Field(default="int8", description="of the convolutions in the file")


class Config(Strict):
    """A whole training run."""

    network: Network = Network()
    start: Start = Start()
    data: Data = Data()
    degradations: Degradations = Degradations()
    losses: dict[str, Loss] = Field(
        default_factory=lambda: {"default": Loss()}, description="losses by name, from which phases choose"
    )
    vgg_weights: Path | None = Field(
        default=None, description="VGG-16 by torchvision's names; else it is downloaded"
    )
    phases: tuple[Phase, ...] = Field(description="fits, one after the other; at least one")
    optimiser: Optimiser = Optimiser()
    run: Run = Run()
    release: Release = Release()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.phases:
            raise ValueError("phases is empty: there is nothing to do")
        for phase in self.phases:
            if phase.loss not in self.losses:
                raise ValueError(
                    f"phase {phase.name}: no loss is named {phase.loss!r}; there are {', '.join(self.losses)}"
                )
            if phase.scale > 1 and self.degradations_of(phase).kept:
                raise ValueError(
                    f"phase {phase.name}: degradations keep {', '.join(self.degradations_of(phase).kept)}, as"
                    f" is for x1 alone: at x{phase.scale} input and target differ in size"
                )
            if phase.scale > 1 and self.network.replaces:
                raise ValueError(
                    f"phase {phase.name}: x{phase.scale}, but a network that replaces gives x1 alone"
                )
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"two phases have one name: {names}")
        scales = [phase.scale for phase in self.phases]
        if scales != sorted(scales):
            raise ValueError(f"the phases' scales are {scales}; a network grows and does not shrink")
        for before, phase in pairwise(self.phases):
            if phase.train == "stage" and phase.scale > 2 * before.scale:
                raise ValueError(
                    f"phase {phase.name}: from x{before.scale} to x{phase.scale} several stages are added,"
                    " and only the newest is trained; put a phase between, or train more"
                )
        return self

    @property
    def largest_crop(self) -> int:
        """Side of the largest crop of any phase, pixels."""
        return max(phase.size for phase in self.phases)

    def degradations_of(self, phase: Phase) -> Degradations:
        """What the crops of a phase suffer."""
        return phase.degradations or self.degradations

    def identity(self, photos_sha256: str) -> dict[str, Any]:
        """What a run must have in common with the one that it goes on from, as JSON has it.

        ``phases`` holds all that a phase is trained by, so that those to come may still be changed. Files are
        the same by whatever path they are named.
        """
        loose: dict[str, Any] = {
            "release": True,
            "run": {"device", "checkpoint_minutes", "log_every", "panel_photos"},
            "data": {"workers", "cache_gb"},
            "phases": True,
            "losses": True,
            "degradations": True,
        }
        data = self.model_dump(mode="json", exclude=loose)
        phases = [
            {
                **phase.model_dump(mode="json"),
                "loss": self.losses[phase.loss].model_dump(mode="json"),
                "degradations": self.degradations_of(phase).model_dump(mode="json"),
            }
            for phase in self.phases
        ]
        data["start"] = {name: _whole_path(value) for name, value in data["start"].items()}
        data["vgg_weights"] = _whole_path(data["vgg_weights"])
        return {**data, "phases": phases, "photos": photos_sha256}


def begun(identity: dict[str, Any], count: int, release: dict[str, Any]) -> Config:
    """The first phases of what :meth:`Config.identity` gave once, each with a loss of its own name.

    Raises:
        ValueError: it is no such record, or one of no phase.
    """
    record = completed(identity)
    kept = {name: record[name] for name in ("network", "start", "data", "optimiser", "run")}
    phases = record["phases"][:count]
    return Config.model_validate(
        {
            **kept,
            "losses": {phase["name"]: phase["loss"] for phase in phases},
            "phases": [{**phase, "loss": phase["name"]} for phase in phases],
            "release": release,
        }
    )


def completed(identity: dict[str, Any]) -> dict[str, Any]:
    """What :meth:`Config.identity` gave once, with the defaults of settings that there were not yet.

    Those do what was done before there was a choice. What is no such record any more stays what it is.
    """
    tables: dict[str, type[Strict]] = {
        "network": Network, "start": Start, "data": Data, "optimiser": Optimiser, "run": Run,
    }  # fmt: skip

    def whole(table: type[BaseModel], record: Any) -> Any:
        return table.model_validate(record).model_dump(mode="json")

    def whole_phase(record: dict[str, Any]) -> dict[str, Any]:
        own = {
            "loss": whole(Loss, record["loss"]),
            "degradations": whole(Degradations, record["degradations"]),
        }
        return {**whole(Phase, {k: v for k, v in record.items() if k not in own}), **own}

    try:
        found = {name: whole(table, identity[name]) for name, table in tables.items()}
        return {**identity, **found, "phases": [whole_phase(phase) for phase in identity["phases"]]}
    except (ValidationError, KeyError, TypeError):
        return identity


def _whole_path(text: str | None) -> str | None:
    """A path from the root on; a bare name, which may be that of a model, stays as it is."""
    return text if text is None or text == Path(text).name else os.path.abspath(text)
