"""The promises of a run: one outcome for each photo, the same bytes however they were made."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from srbatch import batch
from srbatch.codecs import encode
from srbatch.discovery.found import Photo
from srbatch.errors import (
    DeviceError,
    ExitCode,
    Interrupted,
    LockedError,
    SrbatchError,
)
from srbatch.outputs import scratch
from srbatch.outputs.ledger import STATE_FOLDER
from srbatch.outputs.ledger_lock import locked
from srbatch.upscaling.tile_memory import Tiles
from tests.conftest import Originals, crop
from tests.networks import FakeModel, Faulty, Local
from tests.run.conftest import outputs, upscale
from tests.runs import Listener


@pytest.mark.parametrize("fault", ["raise", "shape", "nan for good"])
def test_a_fault_in_the_network_costs_one_photo(
    five: Path, tmp_path: Path, expected: dict[str, bytes], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    times = 2 if fault == "nan for good" else 1
    network = Faulty(Local(), 4, fault.split()[0], times=times)
    code, listener = upscale(five, tmp_path / "hi", network)
    assert code is ExitCode.SOME_FAILED
    failed = [name for name, outcome in listener.by_name().items() if outcome.status == "failed"]
    assert len(failed) == 1
    made = outputs(tmp_path / "hi")
    assert made == {name: data for name, data in expected.items() if name != failed[0]}
    code, listener = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE
    assert [o.photo.source.name for o in listener.outcomes if o.status == "done"] == failed
    assert outputs(tmp_path / "hi") == expected


def test_out_of_memory_at_any_call_changes_no_picture(
    five: Path, originals: Originals, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    for name in ("1.png", "2.png", "3.png"):
        (five / name).unlink()
    originals.remember()
    counting = Faulty(Local(), -1, "raise")
    upscale(five, tmp_path / "count", counting)
    for k in range(counting.calls):
        out = tmp_path / f"hi{k}"
        model = FakeModel(Faulty(Local(), k, "out of memory"), batch=2)
        code, listener = upscale(five, out, model=model)
        assert code is ExitCode.DONE
        assert listener.summary is not None
        assert listener.pixels == pytest.approx(listener.summary.megapixels * 1e6)
        for name, data in outputs(out).items():
            got, want = (np.asarray(Image.open(_file(d))).astype(int) for d in (data, expected[name]))
            assert np.abs(got - want).max() <= 1, f"k={k} {name}"


def test_attempts_at_a_photo_take_scratch_once(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much of it as was counted on, however often memory is short."""
    crop(150, 150).save(originals.folder / "a.png")
    originals.remember()
    taken, room_for = list[int](), scratch.PhotoScratch._room_for

    def noted(files: scratch.PhotoScratch, size: int) -> Path:
        taken.append(size)
        return room_for(files, size)

    monkeypatch.setattr(scratch.PhotoScratch, "_room_for", noted)
    first = FakeModel(Local()).upscalers[0]
    model = FakeModel(Faulty(Local(), 0, "out of memory", times=3), tile=192, batch=4, first=first)
    code, _ = upscale(originals.folder, tmp_path / "hi", model=model)
    assert code is ExitCode.DONE
    assert model.upscalers[0].tiles == Tiles(96, 1)
    assert taken == [150 * 150 * 3 * 2]


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


def test_a_device_too_small_for_anything_ends_the_run(five: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no photo fits"):
        upscale(five, tmp_path / "hi", Faulty(Local(), 0, "out of memory", times=10_000))
    assert outputs(tmp_path / "hi") == {}


@pytest.mark.parametrize("workers", [1, 3])
def test_outputs_do_not_depend_on_what_is_done_at_once(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    for index in range(12):
        crop(30 + 5 * index, 60, top=3 * index, left=9 * index).save(five / f"small{index}.png")
    originals.remember()
    code, listener = upscale(five, tmp_path / "overlapped", workers=workers)
    assert code is ExitCode.DONE
    assert listener.summary is not None
    assert listener.pixels == pytest.approx(listener.summary.megapixels * 1e6)
    monkeypatch.setattr(batch, "_BESIDE_CODECS", 0)
    code, listener = upscale(five, tmp_path / "serial", workers=1)
    assert [o.photo.source.name for o in listener.outcomes] == sorted(listener.by_name())
    assert outputs(tmp_path / "overlapped") == outputs(tmp_path / "serial")


def test_reading_the_device_and_writing_overlap(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: dict[str, list[tuple[float, float]]] = {"decode": [], "encode": [], "device": []}

    def timed(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            start = time.monotonic()
            try:
                return call(*arguments, **named)
            finally:
                spans[kind].append((start, time.monotonic()))

        return step

    class Slow(Local):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            time.sleep(0.1)
            return super().forward(x, scale)

    network = Slow()
    monkeypatch.setattr(network, "forward", timed("device", network.forward))
    for kind in ("decode", "encode"):
        monkeypatch.setattr(batch.CodecPool, kind, timed(kind, getattr(batch.CodecPool, kind)))
    code, _ = upscale(five, tmp_path / "hi", network, workers=1)
    assert code is ExitCode.DONE
    for kind in ("decode", "encode"):
        assert any(a < d and c < b for a, b in spans[kind] for c, d in spans["device"]), kind


def test_every_photo_has_one_outcome_and_one_row(five: Path, tmp_path: Path) -> None:
    (five / "bad.jpg").write_bytes(b"")
    _, listener = upscale(five, tmp_path / "hi", Faulty(Local(), 2, "raise"))
    (five / "bad.jpg").unlink()
    assert sorted(o.photo.source.name for o in listener.outcomes) == sorted(
        [*(f"{index}.png" for index in range(5)), "bad.jpg"]
    )
    ledger = sqlite3.connect(tmp_path / "hi" / ".srbatch" / "ledger.sqlite")
    assert ledger.execute("SELECT count(*) FROM photos").fetchone() == (6,)
    assert ledger.execute("SELECT count(*) FROM pending").fetchone() == (0,)
    ledger.close()


@pytest.mark.parametrize("after", range(0, 40, 6))
def test_interrupted_anywhere_it_goes_on_from_there(
    five: Path, tmp_path: Path, expected: dict[str, bytes], after: int
) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Interrupted(signal.SIGTERM)

    out = tmp_path / "hi"
    with contextlib.suppress(Interrupted):
        upscale(five, out, check=check)
    kept = outputs(out)
    assert kept == {name: expected[name] for name in kept}
    _, listener = upscale(five, out)
    assert {o.photo.source.name for o in listener.outcomes if o.status == "skipped"} == set(kept)
    assert outputs(out) == expected


def test_interrupted_while_photos_are_searched_for_it_does_not_begin(five: Path, tmp_path: Path) -> None:
    def check() -> None:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        upscale(five, tmp_path / "hi", check=check)
    assert not (tmp_path / "hi").exists()


@pytest.mark.usefixtures("one_at_a_time")
def test_an_encoder_that_writes_something_else_is_found_out(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = batch.CodecPool.encode, 0

    def black(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        nonlocal calls
        calls += 1
        written = real(self, raw, temp, encoding)
        if calls == 2:
            raw.write_bytes(bytes(raw.stat().st_size))
            temp.unlink()
            black_file = real(self, raw, temp, encoding)
            assert black_file.sha256 != written.sha256
        return written

    monkeypatch.setattr(batch.CodecPool, "encode", black)
    upscale(five, tmp_path / "hi")
    from srbatch.reporting.inspection import verify

    assert [target for target, _ in verify(tmp_path / "hi", None).problems] == ["1.png"]


@pytest.mark.usefixtures("one_at_a_time")
def test_a_reporter_that_nobody_hears_any_more_is_not_the_disks_fault(five: Path, tmp_path: Path) -> None:
    class Deaf(Listener):
        def progress(self, photo: Photo, pixels: float) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(BrokenPipeError):
        upscale(five, tmp_path / "hi", listener=Deaf())
    code, _ = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE


def test_reporters_hear_of_photos_once_the_output_folder_is_the_runs_own(five: Path, tmp_path: Path) -> None:
    out, refused = tmp_path / "hi", Listener()
    with locked(out / STATE_FOLDER), pytest.raises(LockedError):
        upscale(five, out, listener=refused)
    assert not refused.owns
    assert refused.summary is not None
    _, listener = upscale(five, out)
    assert listener.owns


def test_errors_of_a_run_name_their_exit_code() -> None:
    def all_of(kind: type[SrbatchError]) -> list[type[SrbatchError]]:
        return [kind, *(c for below in kind.__subclasses__() for c in all_of(below))]

    for kind in all_of(SrbatchError):
        assert isinstance(kind.exit_code, ExitCode)
