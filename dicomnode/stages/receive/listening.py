"""What the configuration means for the DICOM door: contexts, limits, TLS, and who may come in."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dicomnode.config import Listen, Node, Peer, Settings
from dicomnode.dicom.files import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicomnode.dicom.transfer_syntaxes import LOSSLESS, decodable
from dicomnode.network.door import ServerSettings
from dicomnode.network.server import VERIFICATION, storage_classes
from dicomnode.network.tls import Certificates, server_context


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """The receiver's part of the configuration; ``free`` is the share of the disk kept free."""

    node: Node
    listen: Listen
    peers: Mapping[str, Peer]
    free: float

    @classmethod
    def of(cls, settings: Settings) -> ReceiverSettings:
        """Give the receiver's part of the whole."""
        return cls(settings.node, settings.listen, settings.peers, settings.retention.free)

    def server(self) -> ServerSettings:
        """Give the settings of the DICOM server.

        Raises
        ------
        ConfigurationError
            When the certificates cannot be used.
        """
        listen = self.listen
        syntaxes = transfer_syntaxes(listen.store_only)
        classes = dict.fromkeys((*storage_classes(), *listen.sop_classes))
        return ServerSettings(
            ae_title=self.node.ae_title,
            host=listen.host,
            port=listen.port,
            contexts=(
                (VERIFICATION, (EXPLICIT_LITTLE, IMPLICIT_LITTLE)),
                *((name, syntaxes) for name in classes),
            ),
            maximum_pdu=listen.maximum_pdu,
            maximum_associations=listen.maximum_associations,
            associations_per_address=listen.associations_per_address,
            silence_s=listen.silence_s,
            idle_s=listen.idle_s,
            maximum_object_bytes=listen.maximum_object,
            tls=self._tls(),
        )

    def _tls(self) -> Callable[[], ssl.SSLContext] | None:
        tls = self.listen.tls
        if tls is None:
            return None
        certificates = Certificates(tls.cert, tls.key, tls.ca)
        server_context(certificates)  # a mistake shows now, not at the first caller
        # Made anew for each connection, so that a renewed certificate is used without a restart.
        return lambda: server_context(certificates)


def transfer_syntaxes(store_only: tuple[str, ...]) -> tuple[str, ...]:
    """Give what is accepted, the preferred first: plain, lossless, lossy, then what is only kept.

    Of several transfer syntaxes in one context the first of these that is proposed is chosen: a
    sender that offers to decompress does so, and nothing is compressed with loss for our sake.
    """
    able = decodable()
    first = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    lossless = sorted(able & LOSSLESS)
    lossy = sorted(able - LOSSLESS - {*first, EXPLICIT_BIG})
    return tuple(dict.fromkeys((*first, *lossless, EXPLICIT_BIG, *lossy, *store_only)))
