"""A daemon over a folder, with a clock that the test moves: whole months pass in no time."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from srbatch.codecs import encode, picture
from srbatch.codecs.encode import Encoding, Written
from srbatch.codecs.picture import Header, Picture
from srbatch.errors import ExitCode, PhotoError
from srbatch.metadata.reading import Metadata
from srbatch.options import Options, TargetSize
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.rows import Row
from srbatch.watch import daemon
from srbatch.watch.control import Control
from srbatch.watch.daemon import WatchOptions
from tests.networks import FakeModel, Nothing

Act = Callable[[], object]


class InProcess:
    """The codecs without processes of their own, which take a second to start."""

    workers = 1

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def checked_by(self, check: Callable[[], None]) -> InProcess:
        view = copy.copy(self)
        view._check = check
        return view

    def probe(self, paths: Sequence[Path], max_pixels: float) -> list[Header | PhotoError]:
        return [self._probe(path, max_pixels) for path in paths]

    def _probe(self, path: Path, max_pixels: float) -> Header | PhotoError:
        try:
            return picture.probe(path, max_pixels)
        except PhotoError as error:
            return error

    def decode(self, source: Path, raw: Path, max_pixels: float) -> Picture:
        self._check()
        return picture.decode(source, raw, max_pixels)

    def metadata(self, source: Path) -> Metadata:
        return picture.metadata_of(source)

    def hash(self, source: Path) -> str:
        return picture.sha256_of(source)

    def encode(self, raw: Path, temp: Path, encoding: Encoding) -> Written:
        self._check()
        return encode.encode(raw, temp, encoding)


class Script(Control):
    """Sleeps in no time. What happens at which second stands in ``at``; after the last, SIGTERM comes."""

    def __init__(self, at: dict[float, Act], *, until: float, events: bool) -> None:
        super().__init__(stop_within_s=20)
        self.time = 0.0
        self._at = sorted({**at, until: self._end}.items())
        self._events = events

    def _end(self) -> None:
        self.stopping = signal.SIGTERM
        self._deadline = self.time + 20

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> bool:
        until = self.time + max(seconds, 0.01)
        if not self._at or self._at[0][0] > until:
            self.time = until
            return False
        when, act = self._at.pop(0)
        self.time = max(self.time, when)
        act()
        return self._events or self.stopping is not None


class World:
    """A drop folder, an output folder and a daemon over them."""

    def __init__(self, top: Path) -> None:
        self.top, self.drop, self.out = top, top / "drop", top / "hi"
        self.drop.mkdir()
        self.control: Script

    def watch(
        self,
        at: dict[float, Act] | None = None,
        *,
        until: float = 30,
        network: nn.Module | None = None,
        events: bool = True,
        retry_failed: bool = False,
        **how: Any,
    ) -> ExitCode:
        """Let the daemon run until that second."""
        options = Options(
            inputs=(self.drop,), out=self.out, size=TargetSize(scale=2), retry_failed=retry_failed
        )
        chosen = WatchOptions(**how)
        with Script(at or {}, until=until, events=events) as self.control:
            return daemon.watch(
                options,
                chosen,
                control=self.control,
                model_of=lambda _: FakeModel(network or Nothing()),
            )

    def photo(self, name: str, colour: int = 0) -> None:
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (colour, 0, 0)).save(path)

    def outputs(self) -> dict[str, int]:
        """The outputs, and the colour that each is of."""
        found = {}
        for path in sorted(self.out.rglob("*")):
            name = path.relative_to(self.out).as_posix()
            if path.is_file() and not name.startswith(STATE_FOLDER):
                with Image.open(path) as image:
                    assert image.size == (16, 12), name
                    found[name] = image.getpixel((0, 0))[0]  # type: ignore[index]
        return found

    def files(self, folder: str) -> list[str]:
        top = self.top / folder
        return sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def row(self, target: str) -> Row | None:
        ledger = Ledger.open_readonly(self.out / STATE_FOLDER)
        found = ledger.row(target)
        ledger.close()
        return found


class NoEvents:
    """Events come from the script."""

    poll_s: float | None = None

    def __init__(self, folder: Path, wake: Act, *, poll_s: float | None, recursive: bool) -> None:
        self.poll_s = poll_s

    def __enter__(self) -> NoEvents:
        return self

    def __exit__(self, *_: object) -> None: ...
    def check(self) -> None: ...
    def renew(self) -> None: ...
