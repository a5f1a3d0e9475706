"""The node itself: disk, processes, database, peers and pipelines as a whole."""

from dicomnode.rules.catalogue.entry import Entry, Group, later, never

_D, _H, _A, _O = Group.DONE, Group.HELD, Group.ATTENTION, Group.OFF

NODES: tuple[Entry, ...] = (
    later(
        "node.disk_low",
        _H,
        "Free space is low: {free_bytes}[, full in about {full_s} at this pace]"
        "[; finished studies older than {age_s} go first].",
        by_itself="cleans by rule",
        actions=("health",),
    ),
    later(
        "node.disk_full",
        _A,
        "New images are refused (A700): only {free_bytes} are free. Nothing acknowledged is lost.",
        by_itself="accepts again at {level_bytes}",
        actions=("health",),
    ),
    later(
        "node.process_down",
        _A,
        "{process} went down[ ({n} times in a row)][; it starts again at {next_at}].",
        by_itself="restarts",
        actions=("health",),
    ),
    later(
        "node.database",
        _A,
        "The database does not answer[ since {since_at}]; new images are refused (A700), senders "
        "try again.",
        by_itself="tries each second",
        actions=("health",),
    ),
    never("node.error", _A, "The node met a fault[ ({error_class})][; log {reference}]."),
    never(
        "node.configuration",
        _A,
        "The configuration is wrong[: {n:fault}].",
        actions=("check",),
    ),
    never("node.storage", _A, "The storage cannot be used[: {cause}].", actions=("check",)),
    never(
        "node.file_missing",
        _A,
        "{n:kept file} that {n:=was|were} here before {n:=is|are} missing from the storage.",
        by_itself="ask the senders to send again",
    ),
    never("node.files_adopted", _D, "{n:file} without a row {n:=was|were} taken in at the start."),
    never(
        "node.file_restored",
        _D,
        "{n:kept file} that {n:=was|were} missing or damaged came again and {n:=is|are} whole.",
    ),
    never(
        "node.reload_refused",
        _A,
        "The changed settings were not taken[: {n:fault}]; the old ones stay.",
        actions=("check",),
    ),
    never(
        "peer.silent",
        _H,
        "{peer} has sent nothing since {since_at}[; on a {weekday} it has usually sent "
        "{usual:study} by now].",
        actions=("echo", "quiet today"),
    ),
    never("peer.answers", _D, "{peer} answers[ in {duration_s}]."),
    later(
        "peer.down",
        _H,
        "{peer} does not answer[ since {since_at}][ ({cause})]; {n:delivery} {n:=waits|wait}, "
        "none is lost.",
        "{peer} does not answer[ since {since_at}][ ({cause})].",
        by_itself="at {next_at}",
        actions=("echo", "try now", "suspend"),
    ),
    never(
        "pipeline.broken",
        _A,
        "{pipeline} cannot be loaded[: {error_class}].",
        actions=("pipelines", "log"),
    ),
)
