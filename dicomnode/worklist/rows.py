"""Rows as frozen values: the one place where a row of the database becomes a dataclass."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from sqlalchemy import CursorResult, Executable, Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dicomnode.rules.reasons import Reason

Value = TypeVar("Value")

# SQLite takes 32,766 bound values in a statement; a chunk of ids stays well below.
CHUNK = 1000


@lru_cache(maxsize=64)
def _readers(cls: Hashable) -> tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...]:
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cast("Any", cls))]
    return tuple((name, _reader(name, hints[name])) for name in names)


def _reader(name: str, hint: object) -> Callable[[Mapping[str, Any]], Any]:
    kinds = get_args(hint) if get_origin(hint) in {UnionType} else (hint,)
    if Reason in kinds:
        return lambda row: Reason.of_row(row[f"{name}_code"], row[f"{name}_parameters"])
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return lambda row: None if row[name] is None else kind(row[name])
        if get_origin(kind) is tuple:
            return lambda row: tuple(row[name] or ())
    return lambda row: row[name]


def as_value(cls: type[Value], row: Row[Any]) -> Value:
    """Give a row as a value of ``cls``: fields by name, words of state as their enum.

    A field of type `Reason` is made of the columns ``<field>_code`` and ``<field>_parameters``.
    """
    mapping = cast("Mapping[str, Any]", row._mapping)
    return cls(**{name: read(mapping) for name, read in _readers(cast("Hashable", cls))})


def as_values(cls: type[Value], rows: Iterable[Row[Any]]) -> list[Value]:
    """Give rows as values of ``cls``."""
    return [as_value(cls, row) for row in rows]


def reason_columns(reason: Reason | None, name: str = "reason") -> dict[str, object]:
    """Give the two columns that hold a reason."""
    return {
        f"{name}_code": None if reason is None else reason.code,
        f"{name}_parameters": None if reason is None else dict(reason.parameters),
    }


def touched(tx: Connection, statement: Executable) -> int:
    """Run a statement that changes rows and give how many it changed."""
    return cast("CursorResult[Any]", tx.execute(statement)).rowcount


def inserted(tx: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Insert one row and give its id."""
    statement = table.insert().values(**values).returning(table.c.id)
    return int(tx.execute(statement).scalar_one())


def insert_or_ignore(tx: Connection, table: Table, values: dict[str, Any]) -> int | None:
    """Insert a row and give its id, or None where another holds one of its unique values."""
    make = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    statement = make(table).values(**values).on_conflict_do_nothing().returning(table.c.id)
    return tx.execute(statement).scalar_one_or_none()


def insert_named(tx: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row whose key is a name, unless it is there."""
    make = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    tx.execute(make(table).values(**values).on_conflict_do_nothing())


def chunks(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    """Cut a long list so that each part fits the bound values of one statement."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
