"""``srbatch watch`` as the installed command, with a service manager, signals and kill -9."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path

import psutil
import pytest
from PIL import Image

from srbatch import cli
from srbatch.errors import ExitCode
from tests.cli.conftest import COMMAND, Srbatch
from tests.conftest import crop

README = Path(__file__).parents[2] / "README.md"


class Manager:
    """The side of the service manager: starts the command and hears what it says."""

    def __init__(self, top: Path, *arguments: object) -> None:
        self._address = top / "notify"
        self._arguments = list(map(str, arguments))
        self._log = (top / "log").open("a+")
        self.said: list[str] = []

    def start(self) -> None:
        self._address.unlink(missing_ok=True)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(os.fspath(self._address))
        self._ear.settimeout(0.05)
        self.said = []
        environ = {"NOTIFY_SOCKET": os.fspath(self._address), "WATCHDOG_USEC": "2000000"}
        self.process = subprocess.Popen(
            [COMMAND, "watch", *self._arguments], env={**os.environ, **environ}, stderr=self._log
        )

    def wait(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 100
        while not what():
            self.listen()
            assert self.process.poll() is None, f"it ended: {self.log()}"
            assert time.monotonic() < deadline, self.log()

    def listen(self) -> None:
        try:
            while True:
                self.said.append(self._ear.recv(4096).decode())
        except TimeoutError:
            pass

    def state(self) -> str:
        """What it said last of its state."""
        told = [line.removeprefix("STATUS=") for line in self.said if line.startswith("STATUS=")]
        return told[-1] if told else ""

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and see that all processes end; returns the exit code."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert not psutil.wait_procs(children, timeout=20)[1], "a worker outlived its parent"
        self.listen()
        self._ear.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._ear.close()
        self._log.close()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path


@pytest.fixture
def manager(folders: Path) -> Iterator[Manager]:
    drop, out, done, failed = (folders / name for name in ("drop", "hi", "done", "failed"))
    found = Manager(
        folders,
        drop,
        "--out",
        out,
        "--scale",
        1,
        "--settle",
        0.3,
        "--done",
        done,
        "--failed",
        failed,
        "--json",
    )
    yield found
    found.close()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_the_life_of_a_daemon(folders: Path, manager: Manager, srbatch: Srbatch) -> None:
    drop, out, done, failed = (folders / name for name in ("drop", "hi", "done", "failed"))
    crop(20, 30, top=0, left=0).save(folders / "whole.jpg")
    data = (folders / "whole.jpg").read_bytes()
    (drop / "backlog.jpg").write_bytes(data)
    (drop / "raw.nef").write_bytes(b"raw")

    manager.start()
    manager.wait(lambda: "READY=1" in manager.said)
    refused = srbatch("watch", drop, "--out", out, "--scale", 1, "--json")
    assert refused.code == ExitCode.LOCKED
    assert "is being written to by" in json.loads(refused.err)["message"]
    with (drop / "slow.jpg").open("wb") as file:
        for start in range(0, len(data), len(data) // 8):
            file.write(data[start : start + len(data) // 8])
            file.flush()
            time.sleep(0.1)
            assert not (out / "slow.jpg").exists()
    manager.wait(lambda: files(done) == ["backlog.jpg", "slow.jpg"])
    manager.wait(lambda: "WATCHDOG=1" in manager.said and manager.state() == "idle")
    status = srbatch("status", out)
    assert "2 done" in status.out
    assert f"watching {drop}: idle (process {manager.process.pid}" in status.out
    assert files(failed) == ["raw.nef", "raw.nef.txt"]

    (drop / "cut off.jpg").write_bytes(data)
    assert manager.end(signal.SIGKILL) == -signal.SIGKILL
    assert f"nothing watches {drop}" in srbatch("status", out).out

    manager.start()
    Image.new("RGB", (30, 20), (200, 0, 0)).save(drop / "backlog.jpg")  # the counter has wrapped
    manager.wait(lambda: len(files(done)) == 4)
    assert manager.end(signal.SIGTERM) == 0
    assert manager.said[0] == "READY=1"
    assert "STOPPING=1" in manager.said
    made = files(out)
    (renamed,) = (name for name in made if re.fullmatch(r"backlog\.[0-9a-f]{8}\.jpg", name))
    state = [f".srbatch/{name}" for name in ("ledger.sqlite", "lock", "watch.json")]
    assert made == sorted([*state, "backlog.jpg", "cut off.jpg", "slow.jpg", renamed])
    assert files(drop) == []
    # After a kill -9, multiprocessing's own tracker says in plain words that it cleans up.
    records = [json.loads(line) for line in manager.log().splitlines() if line.startswith("{")]
    assert next(r["target"] for r in records if r.get("status") == "done").endswith("backlog.jpg")
    assert srbatch("verify", out).code == 0


def test_once_through_the_front_door(srbatch: Srbatch, folders: Path) -> None:
    (folders / "drop" / "raw.nef").write_bytes(b"raw")
    done = srbatch("watch", folders / "drop", "--out", folders / "hi", "--scale", 1, "--once", "--settle", 0)
    assert done.code == ExitCode.SOME_FAILED
    assert "raw.nef is given up until it changes" in done.err
    assert "watching" not in srbatch("status", folders / "hi").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--settle", "-1"], "--settle -1"),
        (["--poll", "0"], "--poll 0"),
        (["--stop-within", "-1"], "--stop-within -1"),
        (["--scale", "9"], "--scale 9"),
        (["--done", "drop/done"], "--done"),
        (["--failed", "hi/failed"], "--failed"),
        (["--out", "drop/hi"], "lies inside the input"),
        (["--state", "drop/state"], "--state"),
        (["--log-level", "loud"], "loud"),
        (["--rehash"], "--rehash"),
    ],
)
def test_wrong_flags_are_named(
    srbatch: Srbatch, folders: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(folders)
    scale = [] if "--scale" in arguments else ["--scale", "1"]
    result = srbatch("watch", "drop", "--out", "hi", *scale, *arguments)
    assert result.code == ExitCode.USAGE
    assert said in result.err
    assert files(folders) == []


def test_a_live_view_is_for_people(srbatch: Srbatch, folders: Path) -> None:
    result = srbatch("status", folders / "hi", "--watch", "--json")
    assert result.code == ExitCode.USAGE


# ---- what the README shows -----------------------------------------------------------------------


def unit() -> str:
    """The service file in the README."""
    (found,) = re.findall(
        r"```ini\n(# /etc/systemd/system/srbatch\.service\n.*?)```", README.read_text(), re.S
    )
    return str(found)


def parsed(text: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


def test_the_service_file_starts_what_there_is() -> None:
    service = parsed(unit())["Service"]
    command, *arguments = shlex.split(service["ExecStart"])
    assert Path(command).name == "srbatch"
    context = cli.cli.make_context("srbatch", arguments[:1])
    name, sub_command, rest = cli.cli.resolve_command(context, arguments)
    assert name == "watch"
    assert sub_command is not None
    chosen = sub_command.make_context("watch", rest).params
    for flag in ("folder", "out", "done", "failed"):
        assert str(chosen[flag]).startswith(service["ReadWritePaths"] + "/")
    assert chosen["stop_within"] < float(service["TimeoutStopSec"])


def test_the_service_file_fits_what_the_daemon_does() -> None:
    service = parsed(unit())["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["KillMode"] == "mixed", "the codecs end with the daemon, not before it"
    assert service["WatchdogSec"]
    assert service["Restart"] == "on-failure"
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never == {ExitCode.USAGE, ExitCode.WEIGHTS}
    assert "AF_UNIX" in service["RestrictAddressFamilies"], "of the manager's own socket"
    assert "MemoryDenyWriteExecute" not in service, "torch makes code as it runs"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_service_file_is_accepted_by_systemd(tmp_path: Path) -> None:
    text = re.sub(r"(?<=ExecStart=)\S+", os.fspath(COMMAND), unit())
    text = re.sub(r"(?m)^(User|Group)=.*$", "", text)  # they need not exist on this machine
    (tmp_path / "srbatch.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "srbatch.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "srbatch.service" not in done.stderr, done.stderr
