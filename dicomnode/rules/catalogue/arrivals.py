"""What was refused or set aside at the door."""

from dicomnode.rules.catalogue.entry import Entry, Group, later, never

_R, _D, _H, _A, _O = Group.RUNNING, Group.DONE, Group.HELD, Group.ATTENTION, Group.OFF

_ASSOCIATIONS: tuple[Entry, ...] = (
    never(
        "association.refused_calling",
        _H,
        "Refused {calling} from {address}: this AE title is not on the list.",
        by_itself="tell the sender, or add a peer",
        actions=("copy toml",),
    ),
    never(
        "association.refused_address",
        _H,
        "Refused {calling} from {address}: the address is not its own.",
        by_itself="add the address to the peer, or tell the sender",
        actions=("copy toml",),
    ),
    never(
        "association.refused_called",
        _H,
        "Refused {calling} from {address}: it calls us {called}, which is not our name.",
        by_itself="tell the sender",
        actions=("copy toml",),
    ),
    never(
        "association.refused_tls",
        _H,
        "Refused {calling} from {address}: TLS {cause}.",
        "Refused a connection from {address}: no TLS, or none that is valid.",
        by_itself="tell the sender",
    ),
    later(
        "association.busy",
        _H,
        "Asked {calling} to come later: {n} of {max:connection} {max:=is|are} in use.",
        by_itself="the sender tries again",
    ),
    later(
        "association.busy_address",
        _H,
        "Closed a connection from {address}: {n} of {max:connection} from there "
        "{max:=is|are} in use.",
        by_itself="the sender tries again",
    ),
    never(
        "association.nothing_in_common",
        _H,
        "{calling} proposed nothing that this node takes.",
        by_itself="see what it proposed",
    ),
    later(
        "association.cut",
        _H,
        "{peer} cut the connection after {n:image}; {n:=it is|these are} kept.",
        by_itself="the rest counts when it comes",
    ),
    later(
        "association.silent",
        _H,
        "The connection of {calling} from {address} was closed: it was silent for {limit_s}.",
        by_itself="the sender tries again",
    ),
    never(
        "association.oversized",
        _H,
        "The connection from {address} was closed: it announced {need_bytes}, at most "
        "{limit_bytes} are taken.",
    ),
    never(
        "association.malformed",
        _H,
        "The connection from {address} was closed: what it sent is not DICOM.",
    ),
    later(
        "association.draining",
        _H,
        "Asked {calling} to come later: the node is being stopped.",
        by_itself="the sender tries again",
    ),
    never("association.lost", _O, "This node stopped while the connection was open."),
    never("association.open", _R, "Open[ since {since_at:ago}]: {n:object} so far."),
    never("association.closed", _D, "Closed by {peer} after {n:object}."),
)

_QUARANTINE: tuple[Entry, ...] = (
    never(
        "quarantine.unreadable",
        _A,
        "Not readable as DICOM at byte {offset}[; the sender was told {status}].",
        "Not readable as DICOM[; the sender was told {status}].",
        actions=("show", "delete"),
    ),
    never(
        "quarantine.bad_uid",
        _A,
        "{keyword} is no usable UID[; the sender was told {status}][ for {n:object}].",
        actions=("show", "delete"),
    ),
    never(
        "quarantine.identity_conflict",
        _A,
        "Same number, other patient: it fits no study without doubt.",
        actions=("compare", "release", "delete"),
    ),
    never(
        "quarantine.uid_conflict",
        _A,
        "The same SOP Instance UID came before under another {keyword}.",
        actions=("compare", "release", "delete"),
    ),
    never(
        "quarantine.revision",
        _A,
        "The same SOP Instance UID came again with other content, and which one counts is in "
        "doubt.",
        actions=("compare", "release", "delete"),
    ),
    never(
        "quarantine.not_allowed",
        _H,
        "{keyword} breaks a limit[ ({limit})].",
        actions=("show", "release"),
    ),
    never(
        "quarantine.orphan",
        _A,
        "A file without a row was found at the start and cannot be taken in[: {cause}].",
        actions=("show", "delete"),
    ),
    never(
        "quarantine.no_room",
        _H,
        "Not kept, because only {free_bytes} are free[; the sender was told {status}]"
        "[ for {n:object}].",
    ),
    never(
        "quarantine.not_taken",
        _H,
        "Not kept: {cause}[; the sender was told {status}][ for {n:object}].",
    ),
)

ARRIVALS: tuple[Entry, ...] = _ASSOCIATIONS + _QUARANTINE
