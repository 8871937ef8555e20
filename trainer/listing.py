"""A configuration as a TOML file that explains itself: every key, its value and what it means."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.config import Config

_WIDTH = 110


def as_toml(config: Config) -> str:
    """Everything in ``config``, for ``--config``: read over the same preset it gives the same configuration.

    A key without a value (None) stands in a comment. Of tables that are repeated the first is explained.
    """
    return "\n".join(_table(config, "", explained=set())).strip() + "\n"


def _table(table: BaseModel, path: str, explained: set[type[BaseModel]]) -> Iterator[str]:
    """The lines of a table: its own values first, as TOML wants it, then the tables in it."""
    is_new = type(table) not in explained
    explained.add(type(table))
    below = []
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if _holds_tables(value):
            below.append((f"{path}.{name}" if path else name, value, field))
            continue
        if is_new:
            yield from _explanation(field)
        if value is not None:
            yield f"{name} = {_inline(value)}"
        elif is_new:
            yield f"# {name} is not given"
    for inner, value, field in below:
        note = list(_explanation(field)) if is_new else []
        for header, one in _tables(value, inner):
            yield from ("", *note, header, *_table(one, header.strip("[]"), explained))
            note = []


def _tables(value: Any, path: str) -> Iterator[tuple[str, BaseModel]]:
    """The header and the values of a table, of one for each name, or of one for each place in a list."""
    if isinstance(value, BaseModel):
        yield f"[{path}]", value
    elif isinstance(value, Mapping):
        yield from ((f"[{path}.{_key(name)}]", table) for name, table in value.items())
    else:
        yield from ((f"[[{path}]]", table) for table in value)


def _holds_tables(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return any(isinstance(one, BaseModel) for one in value)
    return isinstance(value, BaseModel)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {_inline(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_inline, value))}]"
    # What JSON writes for texts, numbers and truth is TOML as well.
    return json.dumps(value if isinstance(value, str | int | float) else str(value))


def _key(name: object) -> str:
    text = str(name)
    return text if text.replace("-", "").replace("_", "").isalnum() and text.isascii() else json.dumps(text)


def _explanation(field: FieldInfo) -> Iterator[str]:
    words = _choices(field.annotation)
    text = "; ".join(part for part in ((field.description or "").removesuffix("."), words) if part)
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _choices(kind: Any) -> str:
    """The values that a key may have, where they are few."""
    found: list[str] = []

    def look(kind: Any) -> None:
        origin = get_origin(kind)
        if origin is Literal:
            found.extend(json.dumps(value) for value in get_args(kind))
        elif origin in (Annotated, Union, UnionType):
            for inner in get_args(kind):
                look(inner)

    look(kind)
    return f"one of {', '.join(found)}" if len(found) > 1 else ""
