"""What a container leaves a process of the machine's memory and cores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from srbatch import limits

GB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(available=20 * GB, total=32 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)


def system(root: Path, groups: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def asked(root: Path) -> tuple[float, float, int]:
    return limits.available_memory(root) / GB, limits.total_memory(root) / GB, limits.cores(root)


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert asked(tmp_path) == (20, 32, 16)
    assert asked(system(tmp_path, "0::/user\n", user__memory_dot_max="max\n")) == (20, 32, 16)


def test_the_tightest_of_the_groups_around_a_process_counts(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        "0::/a/b\n",
        a__memory_dot_max=f"{4 * GB}\n",
        a__memory_dot_current=f"{3 * GB}\n",
        a__memory_dot_stat=f"anon 5\ninactive_file {GB}\n",
        a__b__memory_dot_max=f"{6 * GB}\n",
        a__b__memory_dot_current=f"{GB}\n",
        a__cpu_dot_max="max 100000\n",
        a__b__cpu_dot_max="250000 100000\n",
    )
    assert asked(root) == (2, 4, 3)


def test_a_container_that_does_not_see_its_own_path_has_the_limits_of_the_top(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        "0::/docker/1234\n",
        memory_dot_max=f"{2 * GB}\n",
        memory_dot_current=f"{3 * GB}\n",
        cpu_dot_max="50000 100000\n",
    )
    assert asked(root) == (0, 2, 1)


def test_the_first_version_of_control_groups_is_understood(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        "5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/x\n",
        memory__x__memory_dot_limit_in_bytes=f"{8 * GB}\n",
        memory__x__memory_dot_usage_in_bytes=f"{5 * GB}\n",
        memory__x__memory_dot_stat=f"total_inactive_file {2 * GB}\n",
        memory__memory_dot_limit_in_bytes="9223372036854771712\n",
        memory__memory_dot_usage_in_bytes=f"{30 * GB}\n",
    )
    for name, number in (("quota", "-1"), ("period", "100000")):
        path = root / "sys/fs/cgroup/cpu,cpuacct/x" / f"cpu.cfs_{name}_us"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(number)
    assert asked(root) == (5, 8, 16)
    (root / "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us").write_text("400000")
    assert limits.cores(root) == 4


def test_what_cannot_be_read_as_a_limit_is_none(tmp_path: Path) -> None:
    root = system(tmp_path, "rubbish\n0::\n0::/\n", memory_dot_max="", cpu_dot_max="max\n")
    assert asked(root) == (20, 32, 16)
