"""The commented configuration that ``dicomnode init`` writes, made from the models themselves.

`deploy/dicomnode.example.toml` is the same text; a test compares them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dicomnode import config

_HEAD = """\
# dicomnode: configuration. Research use only; not a medical device.
# Every key has the default that stands here; what is commented out shows how to say it.
# `dicomnode check` proves the file, `dicomnode reload` makes a running node read it again.
"""

# Tables with names of the site's own, shown as one commented example each.
_NAMED = """\
# A system that sends to us or gets our results: one table each, under a name of your choice.
# Admission is closed: who is not listed here with receives_from = true is refused.
{peer}

# What this site wants of one installed pipeline; `dicomnode pipeline list` names them.
{pipeline}

# An address that is told of events, as signed JSON without identities.
{webhook}
"""


def example() -> str:
    """Give the whole commented file."""
    sections = [
        "\n".join(_section(name, field.annotation, prefix=""))
        for name, field in config.Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    named = _NAMED.format(
        peer="\n".join(_commented("peers.pacs", config.Peer, _PEER)),
        pipeline="\n".join(_commented("pipelines.lung-nodule", config.PipelineRules, {})),
        webhook="\n".join(_commented("notify.helpdesk", config.Webhook, _WEBHOOK)),
    )
    return "\n\n".join([_HEAD.rstrip(), *sections, named])


_PEER = {
    "ae_title": '"ORTHANC"',
    "host": '"127.0.0.1"',
    "port": "4242",
    "receives_from": "true",
    "sends_to": "true",
}
_WEBHOOK = {"url": '"https://example.org/hook"', "secret_file": '"/etc/dicomnode/hook.key"'}
# Keys whose default is "not there"; shown commented out, as one would write them.
_OPTIONAL = {
    "tls": '{ cert = "node.pem", key = "node.key", ca = "ca.pem" }',
    "password_file": '"/etc/dicomnode/database.password"',
    "priority": '"urgent"',
    "secret_file": '"/etc/dicomnode/hook.key"',
}


def _section(name: str, model: type[BaseModel] | None, prefix: str) -> Iterator[str]:
    assert model is not None
    yield f"# {(model.__doc__ or '').splitlines()[0]}"
    yield f"[{prefix}{name}]"
    for field_name, field in model.model_fields.items():
        yield from _key(field.alias or field_name, field, {}, mark="")


def _commented(table: str, model: type[BaseModel], given: dict[str, str]) -> Iterator[str]:
    yield f"# [{table}]"
    for field_name, field in model.model_fields.items():
        yield from _key(field.alias or field_name, field, given, mark="# ")


def _key(key: str, field: FieldInfo, given: dict[str, str], mark: str) -> Iterator[str]:
    value = given.get(key)
    if value is None and field.default is not PydanticUndefined and field.default is not None:
        value = _toml(key, field.default)
    shown = mark
    if value is None:
        value, shown = _OPTIONAL.get(key, '""'), "# "
    line = f"{shown}{key} = {value}"
    note = field.description or ""
    if max(len(line), 44) + len(note) + 4 <= 100:
        yield f"{line:<44}  # {note}" if note else line
    else:
        yield from (f"# {part}" for part in textwrap.wrap(note, 96))
        yield line


def _toml(key: str, value: Any) -> str:
    """Write a default as TOML, durations and sizes with their units."""
    match value:
        case bool():
            text = str(value).lower()
        case str() | Path():
            text = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        case float():
            text = f'"{value:.0%}"' if key == "free" else f'"{_duration(value)}"'
        case int():
            text = f'"{_size(value)}"' if value >= 10**8 else str(value)
        case tuple():
            text = "[" + ", ".join(_toml(key, item) for item in value) + "]"
        case _:
            text = "{ }"
    return text


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


def _size(count: int) -> str:
    return f"{count // 10**9}GB" if count % 10**9 == 0 else f"{count // 10**6}MB"
