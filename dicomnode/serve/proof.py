"""What a node proves of its settings beyond their text, before it takes them.

A mistake in hours or certificates would otherwise show only at work, where nobody looks. The rest
of `check` needs a network or a child process, and is no reason not to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ssl import SSLContext

from dicomnode.config import Settings, Tls
from dicomnode.errors import ConfigurationError
from dicomnode.network.tls import Certificates, client_context, server_context
from dicomnode.rules import hours


def prove(settings: Settings) -> Settings:
    """Give ``settings`` back if a node can work with them.

    Raises
    ------
    ConfigurationError
        With every fault found.
    """
    wrong = [f"[pipelines.{name}] {why}" for name, why in wrong_hours(settings).items()]
    wrong += [f"[{table}] tls: {why}" for table, why in wrong_certificates(settings).items()]
    if wrong:
        raise ConfigurationError(*wrong)
    return settings


def wrong_hours(settings: Settings) -> Mapping[str, str]:
    """Give, by pipeline, why its hours cannot be read; those that can are not there."""
    wrong = {}
    for name, rules in settings.pipelines.items():
        try:
            hours.parse(rules.hours)
        except hours.HoursError as fault:
            wrong[name] = f"hours: {fault}"
    return wrong


def wrong_certificates(settings: Settings) -> Mapping[str, str]:
    """Give, by table of the file, why its certificates cannot be used; good ones are not there."""
    return dict(_wrong_certificates(settings))


def _wrong_certificates(settings: Settings) -> Iterator[tuple[str, str]]:
    sides: list[tuple[str, Tls | None, Callable[[Certificates], SSLContext]]] = [
        ("listen", settings.listen.tls, server_context),
        *((f"peers.{name}", peer.tls, client_context) for name, peer in settings.peers.items()),
    ]
    for table, files, context in sides:
        if files is None:
            continue
        try:
            context(Certificates(cert=files.cert, key=files.key, ca=files.ca))
        except ConfigurationError as fault:
            yield table, str(fault).removeprefix("TLS: ")
