"""Measure how soon `srbatch --help` answers, and show what is loaded for it.

    python tests/bench/startup.py

The installed command beside this interpreter is timed in turn with ``python -c pass``, so that whatever
else the machine is doing touches both. The exit code is 1 where the median exceeds the limit, or where
torch or numpy is loaded before there is work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

LIMIT_S = 0.3
HEAVY = {"torch", "numpy"}
COMMAND = Path(sys.executable).with_name("srbatch")
COMMANDS: dict[str, list[str | Path]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "srbatch --help": [COMMAND, "--help"],
    "srbatch upscale --help": [COMMAND, "upscale", "--help"],
}
MODULES = """
import json, sys
before = set(sys.modules)
import srbatch.cli
imported = sorted(set(sys.modules) - before)
try:
    srbatch.cli.main(["upscale", "--help"])
except SystemExit:
    print(json.dumps([imported, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""
"""Prints the modules that importing the command loads, and those that are there after its help."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="of each command  [default: 15]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there")
    arguments = parser.parse_args()
    times = measure(arguments.runs)
    imported, after_help = loaded_modules()
    print_table(times)
    print_modules(imported, after_help)
    if arguments.json:
        record = {"limit_s": LIMIT_S, "seconds": times, "imported": imported, "after_help": after_help}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    slow = any(median(found) > LIMIT_S for found in times.values())
    sys.exit(1 if slow or HEAVY & {*imported, *after_help} else 0)


def measure(runs: int) -> dict[str, list[float]]:
    """Return the wall seconds of each run by command; one of each comes first and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for counted in [False] + [True] * runs:
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if counted:
                times[name].append(time.perf_counter() - start)
    return times


def loaded_modules() -> tuple[list[str], list[str]]:
    """Return the names of the modules after importing ``srbatch.cli``, and after it gave its help."""
    command = [sys.executable, "-c", MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported, after_help = json.loads(done.stderr)
    return imported, after_help


def print_table(times: dict[str, list[float]]) -> None:
    base = next(iter(times.values()))
    print(f"{'':24}   min s  median s  x python (min)  x python (median)  within {LIMIT_S} s")
    for name, found in times.items():
        ratios = f"{min(found) / min(base):14.2f}  {median(found) / median(base):17.2f}"
        within = "yes" if median(found) <= LIMIT_S else "NO"
        print(f"{name:24}  {min(found):6.3f}  {median(found):8.3f}  {ratios}  {within:>12}")


def print_modules(imported: list[str], after_help: list[str]) -> None:
    """Print the modules by package: the standard library as a number, all else by name."""
    for when, modules in {"import srbatch.cli": imported, "upscale --help": after_help}.items():
        outside = [m for m in modules if m.split(".")[0] not in sys.stdlib_module_names]
        heavy = ", ".join(sorted(HEAVY & set(modules))) or "neither torch nor numpy"
        print(f"\n{when} loads {len(modules)} modules, {heavy} among them;")
        print(f"  {len(modules) - len(outside)} of the standard library, and: {', '.join(outside)}")


if __name__ == "__main__":
    main()
