"""Installed pipelines as data, and what an admin switched about them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Mode, Priority
from dicomnode.worklist import events
from dicomnode.worklist.events import Act
from dicomnode.worklist.rows import as_value, as_values, insert_named, touched
from dicomnode.worklist.schema import pipelines
from dicomnode.worklist.signals import Channel, wake


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A pipeline as a worker's child found it installed; ``broken`` says why it cannot run."""

    name: str
    version: str
    match: Mapping[str, Any]
    select: Mapping[str, Any]
    takes: str
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One pipeline; ``suspended``, ``mode`` and ``priority`` are None where the TOML holds."""

    name: str
    version: str
    broken: str | None
    match: Mapping[str, Any]
    select: Mapping[str, Any]
    takes: str
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    described_at: int
    suspended: bool | None
    suspended_by: str | None
    suspended_at: int | None
    mode: Mode | None
    priority: Priority | None


def describe(tx: Connection, found: Iterable[Description], now_ms: int) -> None:
    """Keep what is installed; what an admin switched stays, what is gone is said to be broken."""
    present: list[str] = []
    for one in found:
        values = {
            "version": one.version,
            "broken": one.broken,
            "match": dict(one.match),
            "select": dict(one.select),
            "takes": one.takes,
            "settings": dict(one.settings),
            "weights": dict(one.weights),
            "described_at": now_ms,
        }
        insert_named(tx, pipelines, {"name": one.name, **values})
        tx.execute(update(pipelines).where(pipelines.c.name == one.name).values(**values))
        present.append(one.name)
    gone = pipelines.c.name.not_in(present)
    tx.execute(update(pipelines).where(gone).values(broken="it is not installed"))
    wake(tx, Channel.ROUTES)


def get(tx: Connection, name: str) -> Pipeline | None:
    """Give a pipeline by its name."""
    row = tx.execute(select(pipelines).where(pipelines.c.name == name)).first()
    return None if row is None else as_value(Pipeline, row)


def all_of(tx: Connection) -> list[Pipeline]:
    """Give every pipeline that is or was installed."""
    return as_values(Pipeline, tx.execute(select(pipelines).order_by(pipelines.c.name)))


def suspend(tx: Connection, name: str, act: Act) -> bool:
    """Start no job of a pipeline until it is resumed; False where there is none of that name.

    Who calls this has the studies of `studies.waiting_on` refreshed after.
    """
    who = {"suspended_by": act.actor[:64], "suspended_at": act.now_ms}
    return _switch(tx, name, {"suspended": True, **who}, Reason("pipeline.suspended"), act)


def resume(tx: Connection, name: str, act: Act) -> bool:
    """Start jobs of a pipeline again."""
    nobody = {"suspended": None, "suspended_by": None, "suspended_at": None}
    return _switch(tx, name, nobody, Reason("pipeline.resumed"), act)


def set_mode(tx: Connection, name: str, mode: Mode | None, act: Act) -> bool:
    """Make a pipeline live or shadow for jobs to come; None follows the TOML again."""
    told = Reason("pipeline.mode_set", {"mode": "as configured" if mode is None else mode.value})
    return _switch(tx, name, {"mode": mode}, told, act)


def set_priority(tx: Connection, name: str, priority: Priority | None, act: Act) -> bool:
    """Set how urgent jobs to come of a pipeline are; None follows the TOML again."""
    word = "as configured" if priority is None else priority.value
    told = Reason("pipeline.priority_set", {"priority": word})
    return _switch(tx, name, {"priority": priority}, told, act)


def _switch(tx: Connection, name: str, values: Mapping[str, Any], what: Reason, act: Act) -> bool:
    if not touched(tx, update(pipelines).where(pipelines.c.name == name).values(**values)):
        return False
    events.add(tx, Reason(what.code, {"pipeline": name, **what.parameters}), act)
    wake(tx, Channel.SWITCHES)
    wake(tx, Channel.JOBS)
    return True
