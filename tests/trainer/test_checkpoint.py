"""What a run on disk says to the next start: whether it can go on, and if not, what to do."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from srbatch.errors import UsageError
from trainer import checkpoint
from trainer.checkpoint import State
from trainer.reading import load


@pytest.mark.parametrize(("newer", "advice"), [(-1, "finish the run with that one"), (1, "update this one")])
def test_a_run_of_another_version_is_told_with_what_to_do(tmp_path: Path, newer: int, advice: str) -> None:
    checkpoint.save(State({}), tmp_path)
    path = tmp_path / checkpoint.FILE
    data = torch.load(path, weights_only=True)
    torch.save({**data, "version": data["version"] + newer, "of another version": 1}, path)
    with pytest.raises(UsageError) as raised:
        checkpoint.load(tmp_path)
    assert str(path) in str(raised.value)
    assert advice in str(raised.value)
    assert "choose another --out" in str(raised.value)


def test_what_a_checkpoint_would_execute_is_not_executed(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (os.fspath(tmp_path / "executed"),)

    checkpoint.save(State({}), tmp_path)
    path = tmp_path / checkpoint.FILE
    torch.save({**torch.load(path, weights_only=True), "logged": Planted()}, path)
    with pytest.raises(UsageError, match="cannot be read"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "executed").exists()


RATES = [0.5, 0.25, "find"]


@pytest.mark.parametrize(
    ("state", "fixed"), [(State({}, optimiser={}), 1), (State({}, phase=1), 1), (State({}, phase=2), 2)]
)
@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", RATES)
def test_any_rate_may_be_given_to_a_run_that_goes_on(
    tmp_path: Path, state: State, fixed: int, old: object, new: object
) -> None:
    state.config = {"phases": [{"lr": old, "size": 32}] * 2}
    config = {"phases": [{"lr": new, "size": 32}] * 2}
    checkpoint.go_on(state, config, tmp_path)
    assert state.config == config
    other = {"phases": [*config["phases"][: fixed - 1], {"lr": old, "size": 64}]}
    with pytest.raises(UsageError, match=rf"\(phases.{fixed - 1}.size\).*last went on with"):
        checkpoint.go_on(state, other, tmp_path)


def without_later_settings(record: dict[str, Any]) -> dict[str, Any]:
    """As it was written before there were these."""
    old = copy.deepcopy(record)
    del old["data"]["reduce"], old["optimiser"]["clip"]
    for phase in old["phases"]:
        del phase["warm_up"], phase["loss"]["colour"]
        del phase["degradations"]["alone"], phase["degradations"]["jpeg"]["drawn"]
    return old


def test_a_run_goes_on_with_a_trainer_that_has_more_settings(tmp_path: Path) -> None:
    record = load("smoke").identity("0" * 64)
    state = State(without_later_settings(record), phase=len(record["phases"]))
    checkpoint.go_on(state, record, tmp_path)
    assert state.config == record
    other = load("smoke", values=["degradations.alone=0.5", "data.reduce=[1.0, 1.5]"]).identity("0" * 64)
    state = State(without_later_settings(record), phase=len(record["phases"]))
    with pytest.raises(UsageError, match=r"other settings \(data.reduce, phases.0.degradations.alone, "):
        checkpoint.go_on(state, other, tmp_path)
