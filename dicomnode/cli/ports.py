"""Whether the node could listen, told before anything starts."""

from __future__ import annotations

import errno
import socket


def why_port_is_taken(host: str, port: int) -> str | None:
    """Give why nothing can listen there, as a sentence, or None where it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            # As the server itself sets it: connections of a node that just ended do not count.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE:
            return (
                f"Port {port} is in use on {host}: another program, or a node that runs already, "
                "listens there. Stop it, or set [listen] port."
            )
        if fault.errno == errno.EACCES:
            return f"Port {port} may only be used by root; set [listen] port to 1024 or above."
        return f"Nothing can listen on {host}:{port}: {fault.strerror or fault}."
    return None
