"""The demonstration's scanner: a process of its own that sends files by C-STORE.

``python -m dicomnode.demo.sender HOST PORT CALLED_AE_TITLE ASSOCIATIONS`` reads file names from
standard input and deals them out to that many associations, which send at the same time, so that
studies arrive interleaved. Says on standard output how many files it was given and how many were
answered with success; exits 1 unless that is all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dicomnode.dicom import files, headers
from dicomnode.errors import PeerError
from dicomnode.network import client
from dicomnode.network.connect import Remote

AE_TITLE = "DEMOSCANNER"


def main(arguments: Sequence[str]) -> int:
    """Send the files that standard input names."""
    host, port, called, count = arguments[0], int(arguments[1]), arguments[2], int(arguments[3])
    remote = Remote(
        host=host, port=port, called_ae_title=called, calling_ae_title=AE_TITLE, timeout_s=60.0
    )
    outgoing = [_outgoing(Path(name)) for name in sys.stdin.read().splitlines()]
    shares = [share for n in range(count) if (share := outgoing[n::count])]
    with ThreadPoolExecutor(max(1, len(shares)), thread_name_prefix="association") as pool:
        stored = sum(pool.map(lambda share: _send(remote, share), shares))
    sys.stdout.write(f"{stored} of {len(outgoing)}\n")
    return 0 if stored == len(outgoing) else 1


def _outgoing(path: Path) -> client.Outgoing:
    """Describe one file; what its file meta leaves out stands in its header."""
    _, meta = files.data_set_offset(path)
    if meta.sop_class_uid and meta.sop_instance_uid:
        named = meta.sop_class_uid, meta.sop_instance_uid
    else:
        header = headers.read_header(path)
        named = header.sop_class_uid, header.sop_instance_uid
    return client.Outgoing(path, *named, meta.transfer_syntax_uid)


def _send(remote: Remote, share: Sequence[client.Outgoing]) -> int:
    """Send one association's files; give how many were stored, and say why others were not."""
    try:
        answered = client.store(remote, share)
    except PeerError as fault:
        sys.stderr.write(f"{fault}\n")
        return 0
    for file, outcome in zip(share, answered, strict=True):
        if not outcome.is_stored:
            status = "" if outcome.status is None else f" {outcome.status:04X}"
            sys.stderr.write(f"{file.path.name}: {outcome.told}{status}\n")
    return sum(outcome.is_stored for outcome in answered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
