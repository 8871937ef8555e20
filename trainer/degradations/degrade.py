"""From a clean crop to what the network is shown: which degradations, how strong, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from trainer.degradations import holes, marks, photographic, wear
from trainer.degradations.bounds import Pixels, Probability, Settings
from trainer.degradations.holes import Holes
from trainer.degradations.marks import Text, Watermark
from trainer.degradations.photographic import Blur, Grey, Jpeg, Noise, Poisson
from trainer.degradations.reduction import Kernel
from trainer.degradations.wear import Dust, Folds, Scratches


class Degradations(BaseModel):
    """Everything that may happen to a crop. By default nothing but bicubic reduction does.

    Raises:
        pydantic.ValidationError: a value is out of its range or a name is not known; the message names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kernel: Kernel = Field(default=Kernel(), description="How the small picture is made from the large one.")
    blur: Blur = Blur()
    noise: Noise = Noise()
    poisson: Poisson = Poisson()
    jpeg: Jpeg = Jpeg()
    holes: Holes = Holes()
    text: Text = Text()
    watermark: Watermark = Watermark()
    scratches: Scratches = Scratches()
    dust: Dust = Dust()
    folds: Folds = Folds()
    grey: Grey = Grey()
    alone: Probability = Field(
        default=0.0,
        description="Share of the crops that suffer one kind and no other, chosen by the kinds' probabilities"
        " as weights. Where every kind strikes by a chance of its own, few crops show what one does alone.",
    )

    kept: tuple[str, ...] = Field(
        default=(),
        description="Kinds that strike the target too, in the same way, so that they are learnt to be left as"
        " they are; at x1 alone.",
    )

    @field_validator("kept")
    @classmethod
    def _can_be_kept(cls, kept: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [kind for kind in kept if kind not in KEEPABLE]:
            raise ValueError(f"kept names {', '.join(unknown)}; {', '.join(KEEPABLE)} can be kept")
        return kept

    def kinds(self) -> tuple[str, ...]:
        """Fields of those that may strike, in the order in which they do."""
        return tuple(kind for kind in ORDER if self.of(kind).probability > 0)

    def undone(self) -> tuple[str, ...]:
        """Those of `kinds` that strike the input alone."""
        return tuple(kind for kind in self.kinds() if kind not in self.kept)

    def of(self, kind: str) -> Settings:
        """Settings of one kind of `ORDER`."""
        settings: Settings = getattr(self, kind)
        return settings

    def names(self) -> tuple[str, ...]:
        """What a model trained with these learns to undo, as its card records it.

        "downsampling" is always there; both kinds of noise are "noise".
        """
        kinds = ("noise" if kind == "poisson" else kind for kind in self.undone())
        return tuple(dict.fromkeys(("downsampling", *kinds)))


_FUNCTIONS: Mapping[str, Callable[[Pixels, np.random.Generator, Any], Pixels]] = MappingProxyType(
    {
        "grey": photographic.grey,
        "folds": wear.folds,
        "scratches": wear.scratches,
        "dust": wear.dust,
        "blur": photographic.blur,
        "poisson": photographic.poisson,
        "noise": photographic.noise,
        "text": marks.text,
        "watermark": marks.watermark,
        "jpeg": photographic.jpeg,
        "holes": holes.holes,
    }
)

ORDER = tuple(_FUNCTIONS)
"""The order of events in the life of an old photo, so that each one acts on the traces of those before.

It was printed, perhaps in black and white (grey); the print was folded, scratched and gathered dust; then a
lens saw it (blur), then a sensor (poisson, noise), so that wear is as soft and as noisy as the picture, which
is what tells a scanned scratch from a drawn one. Then somebody wrote on the file (text, watermark), sharp
and free of noise, and saved it (jpeg), which put ringing around the letters too. Holes come last: they
stand for what is masked out by hand before restoring, with no trace of it left.
"""


KEEPABLE = ("grey", "blur", "noise", "text", "watermark", "jpeg")
"""Kinds whose random numbers do not follow from the picture, so that they strike two pictures alike."""


def degrade(pixels: Pixels, rng: np.random.Generator, settings: Degradations) -> Pixels:
    """The input that :func:`degrade_pair` makes of a crop."""
    return degrade_pair(pixels, rng, settings)[0]


def degrade_pair(
    pixels: Pixels, rng: np.random.Generator, settings: Degradations
) -> tuple[Pixels, Pixels, tuple[str, ...]]:
    """Let each kind of `ORDER` strike with its probability, or of `Degradations.alone` of the crops one kind.

    The same state of ``rng`` gives the same bytes; a kind with probability 0 draws nothing from it.

    Returns:
        The input, a new array of the same shape; the target, which is ``pixels`` with the damage that
        `Degradations.kept` names; the kinds that struck, in their order.
    """
    given, target, struck = pixels, pixels, []
    only = _only(rng, settings)
    for kind in settings.kinds():
        kept = kind in settings.kept
        if kind == only or ((only is None or kept) and rng.random() < settings.of(kind).probability):
            if kept:
                before = rng.bit_generator.state
                target = apply(kind, target, rng, settings.of(kind))
                rng.bit_generator.state = before
            given = apply(kind, given, rng, settings.of(kind))
            struck.append(kind)
    return given.copy() if given is pixels else np.ascontiguousarray(given), target, tuple(struck)


def _only(rng: np.random.Generator, settings: Degradations) -> str | None:
    """The one kind that a crop is to suffer, or None where each has a chance of its own."""
    kinds = settings.undone()
    # Where it is not asked for nothing is drawn: the same seed goes on giving the same pictures.
    if not kinds or not settings.alone or rng.random() >= settings.alone:
        return None
    chances = np.array([settings.of(kind).probability for kind in kinds])
    return kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]


def apply(kind: str, pixels: Pixels, rng: np.random.Generator, settings: Settings) -> Pixels:
    """Let one kind of `ORDER` strike for certain."""
    return _FUNCTIONS[kind](pixels, rng, settings)


PHOTO = Degradations(
    kernel=Kernel(bicubic=0.7, bilinear=0.1, area=0.15, lanczos3=0.05),
    blur=Blur(probability=0.3, sigma_px=(0.2, 0.9), anisotropic=0.3),
    noise=Noise(probability=0.5, sigma=(0, 8), grey=0.3),
    poisson=Poisson(probability=0.15, photons=(600, 20000)),
    jpeg=Jpeg(probability=0.7, quality=(30, 100), double=0.1, cropped=0.4),
)
"""For `photo`: what every digital photo has some of, down to none. Nothing that asks for invention."""

MILD = Degradations(
    kernel=Kernel(bicubic=0.85, bilinear=0.05, area=0.08, lanczos3=0.02),
    blur=Blur(probability=0.08, sigma_px=(0.2, 0.7), anisotropic=0.3),
    noise=Noise(probability=0.25, sigma=(0, 7), grey=0.3),
    poisson=Poisson(probability=0.05, photons=(1500, 20000)),
    jpeg=Jpeg(probability=0.45, quality=(25, 98), double=0.1),
)
"""For the stages of `photo`, trained alone: they cannot mend what the body leaves of the damage."""

STRONG = Degradations(
    blur=Blur(probability=0.1, sigma_px=(0.2, 1.0), anisotropic=0.3),
    noise=Noise(probability=0.4, sigma=(0, 35), grey=0.35, correlated=0.35),
    poisson=Poisson(probability=0.1, photons=(100, 5000), correlated=0.35),
    jpeg=Jpeg(
        probability=0.75,
        quality=(8, 80),
        drawn="log-uniformly",
        subsampling=("4:2:0", "4:2:0", "4:4:4"),
        double=0.15,
        cropped=0.5,
    ),
    alone=0.7,
)
"""For `restore`: noise and JPEG, strong and weak, mostly one alone. Nothing that asks for invention."""

RESTORE = Degradations(
    kernel=Kernel(bicubic=0.6, bilinear=0.15, area=0.15, lanczos3=0.1),
    blur=Blur(probability=0.5, sigma_px=(0.2, 1.6), anisotropic=0.4, defocus=0.1, motion=0.1),
    noise=Noise(probability=0.5, sigma=(0, 30), grey=0.4, correlated=0.5),
    poisson=Poisson(probability=0.2, photons=(100, 5000), correlated=0.5),
    jpeg=Jpeg(probability=0.75, quality=(8, 100), double=0.2, cropped=0.4),
    holes=Holes(probability=0.25),
    text=Text(probability=0.25),
    watermark=Watermark(probability=0.25),
    scratches=Scratches(probability=0.3),
    dust=Dust(probability=0.25),
    folds=Folds(probability=0.15),
)
"""For a model that fills and removes too: all, strongly, but for grey: to undo it is to colour old prints."""

MARKS = Degradations(
    grey=Grey(probability=0.2),
    blur=Blur(probability=0.15, sigma_px=(0.2, 1.0)),
    noise=Noise(probability=0.3, sigma=(0, 20), grey=0.4, correlated=0.5),
    jpeg=Jpeg(probability=0.4, quality=(50, 98), cropped=0.4),
    holes=Holes(probability=0.3, shapes=("rectangle", "square", "ellipse")),
    text=Text(probability=0.35),
    watermark=Watermark(probability=0.25),
    scratches=Scratches(probability=0.4),
    dust=Dust(probability=0.35),
    folds=Folds(probability=0.12),
    kept=("grey", "blur", "noise", "jpeg"),
)
"""What lies on a picture or is missing from it; the picture itself is left as it is.

A network cannot tell lettering that was laid over a photo from lettering in it, and takes both away.
"""

WEAR = Degradations(
    grey=Grey(probability=0.2),
    folds=Folds(probability=0.15),
    scratches=Scratches(probability=0.5),
    dust=Dust(probability=0.5),
    blur=Blur(probability=0.15, sigma_px=(0.2, 1.0)),
    noise=Noise(probability=0.3, sigma=(0, 20), grey=0.4, correlated=0.5),
    text=Text(probability=0.3),
    watermark=Watermark(probability=0.1),
    jpeg=Jpeg(probability=0.4, quality=(50, 98), cropped=0.4),
    kept=("grey", "blur", "noise", "text", "watermark", "jpeg"),
)
"""For `retouch`: what the years did to a print or a film; what is written on it is left as it is."""

PRESETS: Mapping[str, Degradations] = MappingProxyType(
    {"photo": PHOTO, "mild": MILD, "strong": STRONG, "restore": RESTORE, "marks": MARKS, "wear": WEAR}
)
