"""What a peer did with results: deliveries, Storage Commitment, notifications."""

from dicomnode.rules.catalogue.entry import Entry, Group, later, never

_W, _R, _D = Group.WAITING, Group.RUNNING, Group.DONE
_H, _A, _O = Group.HELD, Group.ATTENTION, Group.OFF

_DELIVERIES: tuple[Entry, ...] = (
    later(
        "delivery.queued",
        _W,
        "Waiting to be sent to {peer}: {n:object}[, {ahead:delivery} ahead].",
        by_itself="leaves by itself",
    ),
    later(
        "delivery.waiting_before",
        _W,
        "Waiting until an earlier report of this study to {peer} is settled.",
        by_itself="leaves by itself",
    ),
    later("delivery.sending", _R, "Sending to {peer}: {n} of {m:object} stored."),
    never(
        "delivery.sent_final",
        _D,
        "{peer} stored {n:=the|all} {n:object}; by its settings nothing more is asked.",
        "{peer} stored every object; by its settings nothing more is asked.",
        actions=("resend",),
    ),
    never(
        "delivery.sent_unasked",
        _D,
        "{peer} stored {n:=the|all} {n:object}; whether it keeps {n:=it|them} could not be asked"
        "[ ({cause})].",
        "{peer} stored every object; whether it keeps them could not be asked[ ({cause})].",
        actions=("resend",),
    ),
    later(
        "delivery.sent",
        _D,
        "{peer} stored {n} of {n:object} and has not promised yet to keep {n:=it|them}.",
        "{peer} stored every object and has not promised yet to keep them.",
        by_itself="asks whether they are kept",
        actions=("resend",),
    ),
    never(
        "delivery.confirmed",
        _D,
        "{peer} confirmed[ at {at}] that it keeps {n:=the|all} {n:object}.",
        "{peer} confirmed[ at {at}] that it keeps every object.",
        actions=("evidence", "resend"),
    ),
    later(
        "delivery.partial",
        _H,
        "{peer} stored {n} of {m:object}; only the other {k} {k:=goes|go} again[, at {next_at}].",
        by_itself="at {next_at}",
        actions=("resend",),
    ),
    later(
        "delivery.peer_down",
        _H,
        "{peer} does not answer at {host}:{port}[ ({cause})]; {n:delivery} {n:=waits|wait}, none "
        "is lost.",
        "{peer} does not answer[ ({cause})]; what waits for it is not lost.",
        by_itself="at {next_at}",
        actions=("echo", "try now", "suspend"),
    ),
    later(
        "delivery.connection_refused",
        _H,
        "{peer} refuses the connection[ ({cause})].",
        by_itself="at {next_at}; check both AE titles",
        actions=("echo",),
    ),
    never(
        "delivery.not_negotiated",
        _A,
        "{peer} takes {sop_class} in no form that we have; it was not sent.",
        by_itself="not again; switch it on there",
        actions=("echo", "resend"),
    ),
    later(
        "delivery.A700",
        _H,
        "{peer} has no room or memory left[ ({status})]; the object was not stored.",
        by_itself="at {next_at}; tell its admin",
        actions=("resend",),
    ),
    never(
        "delivery.A900",
        _A,
        "{peer} says the object does not fit its type[ ({status})].",
        by_itself="not again; report it to us",
        actions=("checks", "resend"),
    ),
    never(
        "delivery.C000",
        _A,
        "{peer} says it does not understand the object[ ({status})].",
        by_itself="not again; its log says why",
        actions=("checks", "resend"),
    ),
    never(
        "delivery.0122",
        _A,
        "{peer} does not support {sop_class} (0122), though it accepted it when the connection "
        "opened.",
        by_itself="not again",
        actions=("resend",),
    ),
    later(
        "delivery.refused_other",
        _H,
        "{peer} refused the object: {status_words}[ ({status})].",
        by_itself="at {next_at}",
        actions=("resend",),
    ),
    never(
        "delivery.refused_final",
        _A,
        "{peer} refused the object: {status_words}[ ({status})].",
        by_itself="not again",
        actions=("checks", "resend"),
    ),
    later(
        "delivery.0111",
        _H,
        "{peer} says it has this object already (0111).",
        by_itself="looks by C-FIND; the same one counts as stored",
    ),
    never(
        "delivery.B000",
        _D,
        "{peer} stored the object and {change}[ ({status})].",
        by_itself="counts as stored; check patient and study there",
    ),
    later(
        "delivery.no_answer",
        _H,
        "{peer} took the object and did not answer in {limit_s}; whether it is stored is not "
        "known.",
        by_itself="same UID again at {next_at}",
        actions=("resend",),
    ),
    later(
        "delivery.suspended",
        _H,
        "Sending to {peer} is suspended[ since {since_at}][ by {user}]; {n:delivery} "
        "{n:=waits|wait}.",
        actions=("resume",),
    ),
    never(
        "delivery.given_up",
        _A,
        "Given up after {n:try}[ in {duration_s}]; the last answer was {status_words}"
        "[ ({status})].",
        actions=("resend",),
    ),
    never(
        "delivery.peer_removed",
        _A,
        "{peer} is no longer a peer that results are sent to; nothing more was sent.",
        actions=("check", "resend"),
    ),
    never(
        "delivery.file_damaged",
        _A,
        "{n:result file} {n:=is|are} missing or altered here and {n:=was|were} not sent to {peer}.",
        actions=("reprocess",),
    ),
    never(
        "delivery.withdrawn",
        _O,
        "Withdrawn before it was sent to {peer}: a newer result took its place.",
    ),
    never(
        "delivery.outdated",
        _O,
        "{peer} has a newer result; what it did not take of this one is not sent any more.",
    ),
    never(
        "delivery.not_kept",
        _A,
        "{peer} answered that it stored {n:object}, and a look there found {m}.",
        actions=("resend",),
    ),
)

_COMMITMENTS: tuple[Entry, ...] = (
    later(
        "commitment.outstanding",
        _W,
        "{peer} has every object[ ({n})] and has not confirmed them[ for {since_at:ago}]"
        "[ ({cause})].",
        by_itself="asks again at {next_at}",
    ),
    later(
        "commitment.partial",
        _H,
        "{peer} keeps {n} of {m:object}; for {k} it says {status_words}.",
        by_itself="the {k} go again at {next_at}",
        actions=("resend",),
    ),
    later(
        "commitment.not_offered",
        _D,
        "{peer} offers no commitment; a C-FIND[ at {at}] found {n} of {m:object}.",
        by_itself="looks again at {next_at}",
    ),
    never(
        "commitment.committed",
        _D,
        "{peer} promised[ at {at}] to keep {n:=the|all} {n:object}.",
        "{peer} promised[ at {at}] to keep every object.",
    ),
)

_NOTIFICATIONS: tuple[Entry, ...] = (
    later(
        "notification.no_answer",
        _H,
        "{target} does not answer[ ({cause})]; the message waits.",
        by_itself="at {next_at}",
    ),
    later(
        "notification.refused",
        _H,
        "{target} refused the message[ ({status})].",
        by_itself="at {next_at}",
    ),
    never(
        "notification.given_up",
        _A,
        "The message to {target} was given up after {n:try}[ ({status})][ ({cause})].",
        actions=("check",),
    ),
)

DELIVERIES: tuple[Entry, ...] = _DELIVERIES + _COMMITMENTS + _NOTIFICATIONS
