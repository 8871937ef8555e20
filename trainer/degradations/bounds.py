"""What the settings of all degradations share: bounds that are checked, and their strongest end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Pixels = NDArray[np.float32]
"""(H, W, 3) RGB in [0, 1], gamma-encoded (sRGB), C-contiguous."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if low > high:
        raise ValueError(f"the low bound {low:g} is above the high bound {high:g}; give them as (low, high)")
    return bounds


Probability = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[Probability, Probability], AfterValidator(_ordered)]
_Length = Annotated[float, Field(gt=0, le=4096)]
Lengths = Annotated[tuple[_Length, _Length], AfterValidator(_ordered)]
_Angle = Annotated[float, Field(ge=-180, le=180)]
Angles = Annotated[tuple[_Angle, _Angle], AfterValidator(_ordered)]
_Count = Annotated[float, Field(gt=0, le=1000)]
Counts = Annotated[tuple[_Count, _Count], AfterValidator(_ordered)]
_Level = Annotated[float, Field(ge=0, le=255)]
Levels = Annotated[tuple[_Level, _Level], AfterValidator(_ordered)]
_Photons = Annotated[float, Field(ge=16, le=1e6)]
PhotonCounts = Annotated[tuple[_Photons, _Photons], AfterValidator(_ordered)]
_Quality = Annotated[int, Field(ge=1, le=100)]
Qualities = Annotated[tuple[_Quality, _Quality], AfterValidator(_ordered)]


class Settings(BaseModel):
    """Settings of one kind of degradation: how often it strikes, and bounds ``(low, high)`` of its strength.

    Raises:
        pydantic.ValidationError: a value is out of its range, a low bound is above its high bound, or a
            name is not known; the message names the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: Probability = Field(
        default=0.0,
        description="Share of the crops that it strikes, of those that no kind strikes alone; 0 is off.",
    )

    strongest_at_low: ClassVar[frozenset[str]] = frozenset()
    """Bounds whose low end is the strong one."""

    def strongest(self) -> Self:
        """The same settings with every bound at its strong end, and certain to strike."""
        ends: dict[str, object] = {"probability": 1.0}
        for name, value in self:
            if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str):
                end = value[0 if name in self.strongest_at_low else 1]
                ends[name] = (end, end)
        return self.model_copy(update=ends)
