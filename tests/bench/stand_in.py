"""The released model as the ledger knows it, around a network that costs next to no time."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from srbatch.model import Model

if TYPE_CHECKING:
    from srbatch.upscaling.upscaler import Upscaler


class StandIn(Model):
    """Its tiles do not follow from free memory, so that every run gives the same bytes."""

    network = "Nothing"
    """Name of one of `tests.networks`."""

    @cached_property
    def upscalers(self) -> list[Upscaler]:
        from tests import networks  # with torch, which is loaded with the first photo as in the command

        return networks.FakeModel(getattr(networks, self.network)()).upscalers
