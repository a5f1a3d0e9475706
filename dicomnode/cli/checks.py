"""What ``check`` proves, one line each: the folder, the database, the port, peers, pipelines."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dicomnode.cli.installed import describe
from dicomnode.cli.ports import why_port_is_taken
from dicomnode.cli.session import database_file
from dicomnode.config import Peer, Settings
from dicomnode.errors import (
    ConfigurationError,
    DatabaseOlderError,
    DicomNodeError,
    PeerError,
    StorageError,
    WorklistError,
)
from dicomnode.rules.sentences import size
from dicomnode.serve.opening import open_storage, open_worklist
from dicomnode.serve.proof import wrong_certificates, wrong_hours
from dicomnode.serve.supervisor import devices_of
from dicomnode.stages.remotes import callable_peers, remote_of
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist, processes

YES, WARN, NO = "yes", "warn", "no"

_ALIVE_MS = 30_000
# PS3.6: what results are sent as.
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_REPORTS = {"3d": "1.2.840.10008.5.1.4.1.1.88.34", "2d": "1.2.840.10008.5.1.4.1.1.88.33"}
_NAMES = {_SEGMENTATION: "SEG", **dict.fromkeys(_REPORTS.values(), "SR")}
_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_USUAL_SYNTAXES = {
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.5": "RLE",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was proved: ``ok`` is yes, warn or no; ``fix`` says what to do."""

    name: str
    ok: str
    sentence: str
    fix: str | None = None

    def to_data(self) -> dict[str, str | None]:
        """Give it as ``--json`` holds it."""
        return asdict(self)


def every_check(path: Path, settings: Settings) -> Iterator[Line]:
    """Prove everything that a node with these settings needs, one line after the other."""
    yield from _configuration(path, settings)
    yield _storage(settings)
    yield _database(settings)
    yield _receiver(settings)
    wrong = wrong_certificates(settings)
    for table, why in wrong.items():
        yield Line("certificates", NO, why, f"[{table}] tls; serve does not start with it.")
    yield _decoders(settings)
    yield _device(settings)
    yield from _pipelines(settings)
    for name, peer in settings.peers.items():
        if f"peers.{name}" not in wrong:
            yield _peer(name, peer, settings)
    if not settings.peers:
        yield Line("peers", WARN, "No peer is listed: nobody may send.", "Add a [peers.NAME].")


def _configuration(path: Path, settings: Settings) -> Iterator[Line]:
    accepted = settings.node.storage / "run" / "accepted.toml"
    try:
        same = not accepted.is_file() or accepted.read_bytes() == path.read_bytes()
    except OSError:
        same = True
    if same:
        yield Line("configuration", YES, str(path))
    else:
        sentence = "The node last took another version of this file."
        yield Line("configuration", WARN, sentence, "dicomnode reload, or restart it.")


def _storage(settings: Settings) -> Line:
    root = settings.node.storage
    place = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    started = time.perf_counter()
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".check-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as fault:
        sentence = f"{place} cannot be written: {fault.strerror}"
        return Line("storage", NO, sentence, "Set [node] storage, or its rights.")
    took_ms = (time.perf_counter() - started) * 1000
    free = Storage(place).free()
    told = f"{root}, {size(free.free_bytes)} free, one durable write {took_ms:.0f} ms"
    if free.fraction < settings.retention.free:
        low = f"{told}; less than [retention] free = {settings.retention.free:.0%}"
        return Line("storage", NO, low, "Images are refused until there is room.")
    return Line("storage", YES, told)


def _database(settings: Settings) -> Line:
    file = database_file(settings)
    if file is not None and not file.is_file():
        return Line("worklist", YES, f"{file} is not there yet; serve makes it.")
    try:
        with open_worklist(settings) as worklist:
            worklist.check()
            if settings.node.storage.is_dir():
                open_storage(settings, worklist)
    except DatabaseOlderError as fault:
        return Line("worklist", WARN, str(fault), "serve upgrades it when it starts.")
    except (WorklistError, StorageError, ConfigurationError) as fault:
        return Line("worklist", NO, str(fault), "See [worklist] url and [node] storage.")
    kind = "PostgreSQL" if file is None else f"SQLite, {file}"
    return Line("worklist", YES, f"{kind}; tables up to date, commits are durable")


def _receiver(settings: Settings) -> Line:
    listen, title = settings.listen, settings.node.ae_title
    taken = why_port_is_taken(listen.host, listen.port)
    if taken is None:
        return Line("receiver", YES, f"port {listen.port} is free, AE title {title}")
    if _runs_here(settings):
        return Line("receiver", YES, f"this node listens on port {listen.port}, AE title {title}")
    return Line("receiver", NO, taken)


def _runs_here(settings: Settings) -> bool:
    file = database_file(settings)
    if file is not None and not file.is_file():
        return False
    try:
        with open_worklist(settings) as worklist:
            return bool(_alive_here(worklist))
    except WorklistError:
        return False


def _alive_here(worklist: Worklist) -> list[processes.Process]:
    since_ms = worklist.now() - _ALIVE_MS
    with worklist.read() as tx:
        here = processes.of_host(tx, socket.gethostname()[:64])
    return [one for one in here if one.kind == "receive" and one.heartbeat_at >= since_ms]


def _decoders(settings: Settings) -> Line:
    from dicomnode.dicom.transfer_syntaxes import decodable  # noqa: PLC0415  loads the decoders

    found = decodable()
    missing = [name for syntax, name in _USUAL_SYNTAXES.items() if syntax not in found]
    told = f"{len(found)} transfer syntaxes can be decoded"
    if missing:
        fix = "Senders that offer only these cannot send."
        return Line("decoders", WARN, f"{told}; not {', '.join(missing)}", fix)
    return Line("decoders", YES, told)


def _device(settings: Settings) -> Line:
    devices = devices_of(settings)
    absent = [
        name
        for name in devices
        if name.startswith("cuda:") and not Path(f"/dev/nvidia{name[5:]}").exists()
    ]
    if absent:
        sentence = f"{', '.join(absent)} is not here"
        return Line("device", NO, sentence, 'Set [analyse] devices, or leave it at "auto".')
    if devices == ("cpu",):
        return Line("device", WARN, f"no GPU, {os.cpu_count()} threads: analyses take minutes")
    return Line("device", YES, ", ".join(devices))


def _pipelines(settings: Settings) -> Iterator[Line]:
    wrong = wrong_hours(settings)
    try:
        found = describe(settings)
    except DicomNodeError as fault:
        yield Line("pipelines", NO, str(fault))
        return
    for one in found:
        rules = settings.pipelines.get(one.name)
        if one.broken is not None:
            yield Line(one.name, NO, f"cannot run: {one.broken}")
        elif one.name in wrong:
            yield Line(one.name, NO, wrong[one.name], f"[pipelines.{one.name}] hours")
        elif rules is not None and not rules.enabled:
            yield Line(one.name, WARN, f"{one.version}, switched off")
        else:
            yield Line(one.name, YES, f"{one.version}, takes {one.takes}")
    for name in sorted(set(settings.pipelines) - {one.name for one in found}):
        there = ", ".join(one.name for one in found) or "none"
        sentence = f"is configured and not installed; there are: {there}"
        yield Line(name, NO, sentence, f"Install it, or take [pipelines.{name}] out.")


def _peer(name: str, peer: Peer, settings: Settings) -> Line:
    from dicomnode.network import client  # noqa: PLC0415  pynetdicom loads only for who calls a peer

    shown = f"peer {name}"
    if name not in callable_peers(settings):
        return Line(shown, YES, f"{', '.join(peer.ae_title)} may send; it is never called")
    place = f"{peer.host}:{peer.port}"
    try:
        remote = remote_of(peer, settings.node.ae_title)
        took_ms = client.echo(remote)
        wanted = _result_classes(peer) if peer.sends_to else {}
        accepted = client.accepted_contexts(remote, wanted) if wanted else {}
    except PeerError as fault:
        fix = f"Is it started? Is the port right? [peers.{name}] host, port, ae_title"
        return Line(shown, NO, f"{place}: {fault}", fix)
    refused = [_NAMES[sop_class] for sop_class, syntaxes in accepted.items() if not syntaxes]
    answers = f"{place} answers in {took_ms:.0f} ms"
    if refused:
        fix = "Switch that on there, or take it out of presents."
        return Line(shown, NO, f"{answers}, and does not take {', '.join(refused)}", fix)
    takes = ", ".join(_NAMES[sop_class] for sop_class in accepted)
    return Line(shown, YES, f"{answers}, takes {takes}" if takes else answers)


def _result_classes(peer: Peer) -> Mapping[str, tuple[str, ...]]:
    wanted = {_SEGMENTATION} if "seg" in peer.presents else set()
    if {"sr", "status"} & set(peer.presents):
        wanted.add(_REPORTS[peer.sr])
    return dict.fromkeys(sorted(wanted), _SYNTAXES)
