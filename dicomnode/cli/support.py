"""``support``: one archive for whoever helps, without secrets and without identities."""

from __future__ import annotations

import io
import json
import platform
import re
import tarfile
import time
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from sqlalchemy import make_url

from dicomnode import __version__
from dicomnode.cli.checks import every_check
from dicomnode.cli.session import Session, command, refuse
from dicomnode.cli.views import (
    peer_view,
    pipeline_view,
    process_view,
)
from dicomnode.config import Settings
from dicomnode.errors import DicomNodeError
from dicomnode.worklist import Worklist, events, peers, pipelines, processes, search

_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)
_EVENTS = 2000
_WEEK_MS = 7 * 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app)(support)


def support(
    session: Session,
    out: Annotated[Path | None, typer.Option(help="File to write, .tar.gz.")] = None,
) -> None:
    """Write versions, settings, checks and the last events into one archive."""
    name = f"dicomnode-support-{time.strftime('%Y%m%d-%H%M%S')}"
    file = out or Path(f"{name}.tar.gz")
    if file.exists():
        raise refuse(session, f"{file} is there already; nothing was written.")
    settings = session.settings
    parts: dict[str, object] = {
        "versions.json": _versions(),
        "settings.json": redacted(settings),
        "checks.json": [line.to_data() for line in every_check(session.path, settings)],
    }
    try:
        with session.worklist() as worklist:
            parts.update(_rows(session, worklist))
    except DicomNodeError as fault:
        parts["worklist.json"] = {"fault": str(fault)}
    with tarfile.open(file, "x:gz") as archive:
        for part, content in parts.items():
            _add(archive, f"{name}/{part}", content)
    if session.output.as_json:
        session.output.items([{"file": str(file), "parts": list(parts)}])
    else:
        session.output.say(f"{file} is written: {', '.join(parts)}. It names no patient.")


def _add(archive: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content, indent=1, ensure_ascii=False, default=str).encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _versions() -> dict[str, Any]:
    return {
        "dicomnode": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {one.name: one.version for one in distributions()},
    }


def redacted(settings: Settings) -> dict[str, Any]:
    """Give the settings without what could be a secret."""
    shown = _without_secrets(settings.model_dump(mode="json"))
    assert isinstance(shown, dict)
    url = make_url(settings.worklist.url).set(query={})
    shown["worklist"]["url"] = url.render_as_string(hide_password=True)
    for name, webhook in settings.notify.items():
        parts = urlsplit(webhook.url)
        shown["notify"][name]["url"] = f"{parts.scheme}://{parts.hostname}/…"
    return shown


def _without_secrets(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            key: "…" if _SECRET.search(str(key)) and inner else _without_secrets(inner)
            for key, inner in value.items()
        }
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value


def _rows(session: Session, worklist: Worklist) -> dict[str, object]:
    """Give rows by their ids: no name, no patient's number, no UID."""
    reader = session.reader(worklist)
    with worklist.read() as tx:
        newest = events.newest(tx)
        last = events.after(tx, max(0, newest - _EVENTS), _EVENTS)
        return {
            "processes.json": [process_view(one, is_up=True) for one in processes.alive(tx, 0)],
            "peers.json": [peer_view(one, reader) for one in peers.all_of(tx)],
            "pipelines.json": [
                _without_secrets(pipeline_view(one)) for one in pipelines.all_of(tx)
            ],
            "counts.json": {
                "open": search.counts(tx),
                "week": search.finished_since(tx, reader.now_ms - _WEEK_MS),
            },
            "events.json": [
                {
                    "id": one.id,
                    "at": one.at,
                    "what": one.what,
                    "study_id": one.study_id,
                    "job_id": one.job_id,
                    "delivery_id": one.delivery_id,
                    "parameters": {
                        key: value
                        for key, value in (one.reason.parameters if one.reason else {}).items()
                        # What people type may hold a name.
                        if key not in ("why", "user", "text", "comment")
                    },
                }
                for one in last
            ],
        }
