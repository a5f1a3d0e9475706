"""What every command shares: the options of all, the configuration, the worklist, the errors.

A command is written as ``def name(session, …)`` under `command`; it gets the common options
added, and whatever the node raises on purpose becomes a sentence and an exit status.
"""

from __future__ import annotations

import functools
import inspect
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from dicomnode.cli.output import FAILED, NOT_REACHABLE, WRONG_USE, Output
from dicomnode.cli.words import (
    Reader,
)
from dicomnode.config import Settings, load
from dicomnode.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    DicomNodeError,
    PeerUnreachableError,
    WorklistError,
)
from dicomnode.rules.reasons import Reason
from dicomnode.serve.opening import open_storage, open_worklist
from dicomnode.storage import Storage
from dicomnode.worklist import Worklist
from dicomnode.worklist.events import Act

_PLACES = (Path("dicomnode.toml"), Path("/etc/dicomnode/dicomnode.toml"))

_COMMON = {
    "config": (
        Annotated[
            Path | None,
            typer.Option(
                envvar="DICOMNODE_CONFIG",
                help="Configuration file; else ./dicomnode.toml, then /etc/dicomnode/.",
                show_default=False,
            ),
        ],
        None,
    ),
    "as_json": (
        Annotated[bool, typer.Option("--json", help="One JSON document for scripts.")],
        False,
    ),
    "no_color": (Annotated[bool, typer.Option("--no-color", help="No colours.")], False),
    "no_names": (
        Annotated[bool, typer.Option("--no-names", help="No patient's name, ID or accession.")],
        False,
    ),
    "wide": (
        Annotated[bool, typer.Option("--wide", help="Every column, on a narrow terminal too.")],
        False,
    ),
}


@dataclass(slots=True)
class Session:
    """One call of the command line."""

    output: Output
    config: Path | None = None
    with_names: bool = True
    _settings: Settings | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        """The configuration file that holds.

        Raises
        ------
        ConfigurationError
            When none was named and none lies in its places.
        """
        found = self.config or next((place for place in _PLACES if place.is_file()), None)
        if found is None:
            places = " or ".join(str(place) for place in _PLACES)
            raise ConfigurationError(
                f"no configuration at {places}; write one with: dicomnode init"
            )
        return found

    @property
    def settings(self) -> Settings:
        """The configuration, checked; raises ConfigurationError."""
        if self._settings is None:
            self._settings = load(self.path)
        return self._settings

    @property
    def settings_or_defaults(self) -> Settings:
        """The configuration where there is one, else every default."""
        if self.config is None and not any(place.is_file() for place in _PLACES):
            return Settings()
        return self.settings

    @contextmanager
    def worklist(self) -> Iterator[Worklist]:
        """Open the worklist for a command, which never makes one.

        Raises
        ------
        WorklistError
            When there is none yet, it does not answer, or is of another version.
        """
        demand_database(self.settings)
        with open_worklist(self.settings) as worklist:
            worklist.check()
            yield worklist

    def storage(self, worklist: Worklist) -> Storage:
        """Open the storage folder of the worklist."""
        return open_storage(self.settings, worklist)

    def reader(self, worklist: Worklist) -> Reader:
        """Give how rows are told: the present, the node's zone, with names or without."""
        from dicomnode.stages.route import zone_of  # noqa: PLC0415  loads pydicom; health needs none

        return Reader(worklist.now(), zone_of(self.settings), self.with_names)

    def act(self, worklist: Worklist, why: str | None = None) -> Act:
        """Give who acts: the user of this machine who called the command."""
        return Act(now_ms=worklist.now(), actor=user_name(), why=why)


def user_name() -> str:
    """Name of the machine's user; the environment, which anybody can set, is not asked."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def database_file(settings: Settings) -> Path | None:
    """Give the file of a SQLite worklist, None for PostgreSQL."""
    file = settings.worklist.url.removeprefix("sqlite:///")
    return None if file == settings.worklist.url else Path(file)


def demand_database(settings: Settings) -> None:
    """Raise WorklistError where a SQLite worklist was never made: opening would make one."""
    file = database_file(settings)
    if file is not None and not file.is_file():
        raise WorklistError(
            f"There is no worklist at {file} yet; dicomnode serve or dicomnode db upgrade makes it."
        )


def command(
    app: typer.Typer, name: str | None = None, *, hidden: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command of ``app`` that gets a `Session` first and the common options added."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, hidden=hidden)(_with_session(function))
        return function

    return register


def _with_session(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def called(**given: Any) -> None:
        common = {key: given.pop(key) for key in _COMMON}
        output = Output(
            as_json=common["as_json"], colour=not common["no_color"], wide=common["wide"]
        )
        session = Session(output, common["config"], not common["no_names"])
        with faults_told(output):
            function(session, **given)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [parameter.replace(kind=keyword) for parameter in own]
    parameters += [
        inspect.Parameter(key, keyword, default=default, annotation=annotation)
        for key, (annotation, default) in _COMMON.items()
    ]
    # Typer reads the signature; functools.wraps would show it the one without these options.
    vars(called).pop("__wrapped__")
    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


@contextmanager
def faults_told(output: Output) -> Iterator[None]:
    """Turn what the node raises on purpose into sentences and an exit status."""
    try:
        yield
    except ConfigurationError as fault:
        output.fault(fault.code, fault.faults)
        raise typer.Exit(WRONG_USE) from None
    except (DatabaseUnavailableError, PeerUnreachableError) as fault:
        output.fault(fault.code, [str(fault)])
        raise typer.Exit(NOT_REACHABLE) from None
    except DicomNodeError as fault:
        output.fault(fault.code, [str(fault)])
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        raise
    except OSError as fault:
        place = f"{fault.filename}: " if fault.filename else ""
        output.fault("node.error", [f"{place}{fault.strerror or fault}"])
        raise typer.Exit(FAILED) from None


def refuse(session: Session, sentence: str, status: int = FAILED) -> typer.Exit:
    """Say why something is not done and give the exit to raise."""
    session.output.fault("refused", [sentence])
    return typer.Exit(status)


def told(reason: Reason | str, reader: Reader) -> str:
    """Give a reason as its sentence; a sentence as it is."""
    return reason if isinstance(reason, str) else reader.sentence(reason)
