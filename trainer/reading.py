"""From a preset, over it a TOML file, over that single values to a configuration.

A mistake is told with its place, and a key that does not exist with the nearest one that does.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Set
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from srbatch.errors import UsageError
from trainer.config import Config
from trainer.degradations.degrade import PRESETS as DEGRADATIONS


def presets() -> tuple[str, ...]:
    """Names of the presets."""
    files = resources.files("trainer").joinpath("presets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load(
    preset: str,
    file: Path | None = None,
    values: Iterable[str] = (),
    strings: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """Read a preset, a user's TOML file over it, and ``key.key=value`` texts over both.

    A table is merged key by key; a list, such as the phases, is replaced. An entry of a list is reached by
    its number: ``phases.0.lr=1e-4``. The value in such a text is TOML or a bare word; those of ``strings``,
    by ``key.key``, come last and are taken as they are.

    Raises:
        UsageError: no such preset or file, not TOML, or a value that is out of range or does not exist.
    """
    if preset not in presets():
        raise UsageError(f"--preset {preset}: there is none; known are {', '.join(presets())}")
    text = resources.files("trainer").joinpath("presets", f"{preset}.toml").read_text("utf-8")
    data = tomllib.loads(text)
    _spell_out(data)
    known = set(data["losses"])
    if file is not None:
        data = _merged(data, _read(file))
        _spell_out(data)
    values = tuple(values)
    for value in values:
        _set(data, value)
        _spell_out(data)
    for path, string in strings.items():
        _put(data, path, string, f"{path}={string}")
    where = (str(file) if file else f"preset {preset}") + (" and --set" if values or strings else "")
    config = parse(data, where)
    _check_losses(config, known, where)
    return config


def _check_losses(config: Config, known: Set[str], where: str) -> None:
    """A loss of the user's own that no phase has is a name that was written wrongly.

    Raises:
        UsageError: there is one that is not among those of the preset.
    """
    used = {phase.loss for phase in config.phases}
    for name in sorted(config.losses.keys() - known - used):
        raise UsageError(
            f"{where}: losses.{name}: no phase has this loss; they have {', '.join(sorted(used))}."
            f" It is given to one by loss = {name!r}"
        )


def _spell_out(data: dict[str, Any]) -> None:
    """Put presets of degradations in the place of their names, so that single values can be changed."""
    phases = data.get("phases")
    for table in (data, *(phases if isinstance(phases, list) else ())):
        if isinstance(table, dict):
            _spell_out_table(table)


def _spell_out_table(data: dict[str, Any]) -> None:
    name = data.get("degradations")
    if not isinstance(name, str):
        return
    if name not in DEGRADATIONS:
        raise UsageError(
            f"degradations = {name!r}: there is no such preset; known are {', '.join(DEGRADATIONS)}"
        )
    data["degradations"] = DEGRADATIONS[name].model_dump()


def parse(data: Mapping[str, Any], where: str) -> Config:
    """Check and build a configuration from plain data.

    Raises:
        UsageError: with a line for each mistake.
    """
    try:
        return Config.model_validate({**data, "phases": _degraded(data)} if "phases" in data else data)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise UsageError(f"{where}: " + "\n  ".join(lines)) from None


def _degraded(data: Mapping[str, Any]) -> Any:
    """The phases, with the run's degradations below those that some have of their own."""
    below, phases = data.get("degradations", {}), data["phases"]
    if not isinstance(below, dict) or not isinstance(phases, list):
        return phases  # what is wrong with them is told by the check

    def complete(phase: Any) -> Any:
        own = phase.get("degradations") if isinstance(phase, dict) else None
        return {**phase, "degradations": _merged(below, own)} if isinstance(own, dict) else phase

    return [complete(phase) for phase in phases]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors put a mark before it
    except OSError as error:
        raise UsageError(f"--config {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {file} is not TOML: {error}") from error


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _set(data: dict[str, Any], text: str) -> None:
    path, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"--set {text}: key.key=value is meant, such as optimiser.ema=0.99")
    _put(data, path.strip(), _value(value.strip()), text)


def _put(data: dict[str, Any], path: str, value: Any, text: str) -> None:
    """Set the value at ``key.key``; ``text`` is how it was asked for."""
    *parents, last = path.split(".")
    at: Any = data
    try:
        for key in parents:
            at = at[_number(key, at, text)] if isinstance(at, list) else at.setdefault(key, {})
        at[_number(last, at, text) if isinstance(at, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(f"--set {text}: there is no place {path} in the configuration") from None


def _number(key: str, entries: list[Any], text: str) -> int:
    """Of an entry of a list.

    Raises:
        UsageError: there is none of that number.
    """
    if key.isascii() and key.isdigit() and int(key) < len(entries):
        return int(key)
    raise UsageError(
        f"--set {text}: {key!r} is no number from 0, the first, to {len(entries) - 1}, the last of"
        f" {len(entries)}"
    )


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is meant as a string


def _explain(detail: Any) -> str:
    path = [str(part) for part in detail["loc"]]
    where = ".".join(path)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_at(path[:-1]), n=1, cutoff=0.0)
        return f"{where}: there is no such key" + (f"; {near[0]} is the nearest" if near else "")
    if detail["type"] == "value_error":
        return f"{where}: {detail['ctx']['error']}" if where else str(detail["ctx"]["error"])
    given = "" if detail["type"] == "missing" else f" (given: {detail['input']!r})"
    return f"{where}: {detail['msg'][0].lower()}{detail['msg'][1:]}{given}"


def _keys_at(path: list[str]) -> list[str]:
    """Names of the fields of the table that a path leads to."""
    kind: Any = Config
    for key in path:
        if _is_model(kind):
            kind = _without_none(kind.model_fields[key].annotation)
        else:  # dict[str, Loss] or tuple[Phase, ...], whose keys are no fields
            kind = next((inner for inner in get_args(kind) if _is_model(inner)), None)
    return list(kind.model_fields) if _is_model(kind) else []


def _without_none(kind: Any) -> Any:
    """The kind that an optional value has where it is given."""
    kinds = [inner for inner in get_args(kind) if inner is not type(None)]
    return kinds[0] if type(None) in get_args(kind) and len(kinds) == 1 else kind


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
