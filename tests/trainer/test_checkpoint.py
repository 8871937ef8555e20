"""What a run on disk says to the next start: whether it can go on, and if not, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srbatch.errors import UsageError
from trainer import checkpoint
from trainer.checkpoint import State


@pytest.mark.parametrize(("newer", "advice"), [(-1, "finish the run with that one"), (1, "update this one")])
def test_a_run_of_another_version_is_told_with_what_to_do(tmp_path: Path, newer: int, advice: str) -> None:
    checkpoint.save(State({}), tmp_path)
    path = tmp_path / checkpoint.FILE
    data = torch.load(path, weights_only=True)
    torch.save({**data, "version": data["version"] + newer, "of another version": 1}, path)
    with pytest.raises(UsageError) as raised:
        checkpoint.load(tmp_path, {})
    assert str(path) in str(raised.value)
    assert advice in str(raised.value)
    assert "choose another --out" in str(raised.value)
