"""What the user asked that changes an output's pixels, as the ledger keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from srbatch.options import Options


def recipe(options: Options, weights_sha256: str, *, lossy: bool, first_sha256: str | None = None) -> str:
    """What the user asked that changes pixels, as text that is equal exactly if the same was asked.

    Device, engine and precision are not part of it: what they change is rounding.

    Args:
        weights_sha256: of the file of weights, in hexadecimal.
        lossy: whether the output's format is.
        first_sha256: of the weights that are run before, where there are any.
    """
    return json.dumps(
        {
            "model": weights_sha256,
            "size": str(options.size),
            "strength": options.strength,
            "quality": options.quality if lossy else None,
            # Absent where it is off: what was made before there was a choice stays what was asked for.
            **({"tta": True} if options.tta else {}),
            **({"first": first_sha256} if first_sha256 is not None else {}),
        },
        sort_keys=True,
    )


def in_words(made: Mapping[str, Any]) -> str:
    """A recipe that was read from its text, for people.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    quality = f", quality {made['quality']}" if made["quality"] is not None else ""
    strength = f", strength {made['strength']:g}" if made["strength"] != 1 else ""
    views = ", tta" if made.get("tta") else ""
    first = f", first model {made['first'][:12]}" if made.get("first") else ""
    return f"{made['size']}, model {made['model'][:12]}{first}{quality}{strength}{views}"
