"""What happened and who did it: sentences of the append-only history."""

from dicomnode.rules.catalogue.entry import Entry, Group, never

_D, _A, _O = Group.DONE, Group.ATTENTION, Group.OFF

_BY_NODE: tuple[Entry, ...] = (
    never("study.opened", _O, "The first image came from {peer}."),
    never(
        "study.completed",
        _D,
        "Complete with {n:image} ({by}).",
        "Complete[ with {n:image}].",
    ),
    never("study.routed", _D, "Routed: {n:job} made[, {m} by rule not wanted]."),
    never("study.purged", _O, "{n:image} {n:=was|were} deleted here by rule after {age_s}."),
    never("study.results_purged", _O, "{n:result} {n:=was|were} deleted here by rule."),
    never("job.created", _D, "{pipeline}[ {version}] will analyse {n:image}."),
    never("job.started", _D, "Try {n} started[ on {device}]."),
    never("job.drained", _O, "Stopped with the node; the job starts again."),
    never("job.raised", _D, "Moved ahead, because {pipeline} found something urgent."),
    never("delivery.created", _D, "{n:object} {n:=is|are} to go to {peer}."),
    never("delivery.raised", _D, "Moved ahead, because {pipeline} found something urgent."),
    never("node.process_started", _D, "{process} started."),
    never("node.process_stopped", _O, "{process} stopped."),
    never("node.reloaded", _D, "The changed settings are in force."),
    never("peer.back", _D, "{peer} answers again[ after {duration_s}]."),
)

_NOTICES: tuple[Entry, ...] = (
    never("study.done", _D, "Everything that is to be done with this study is done."),
    never("job.failed", _A, "{pipeline} failed[ ({reason})]."),
    never("delivery.failed", _A, "{n:object} did not reach {peer}[ ({reason})]."),
)

_BY_HAND: tuple[Entry, ...] = (
    never("study.completed_by_hand", _D, "{user} said the study is complete[ with {n:image}]."),
    never("study.reprocessed", _D, "{user} had {pipeline} run again[: {why}]."),
    never("study.priority_set", _D, "{user} set the priority to {priority}."),
    never("study.deleted", _O, "{user} deleted {n:image} and {m:result} here."),
    never("study.seen", _O, "{user} looked at the study."),
    never("study.held", _D, "{user} keeps the study from being deleted."),
    never("study.released", _D, "{user} lets the study be deleted by rule again."),
    never("job.retried", _D, "{user} started the job again."),
    never("job.cancelled_by_hand", _O, "{user} cancelled the job."),
    never("job.priority_set", _D, "{user} set the priority to {priority}."),
    never("delivery.resent", _D, "{user} had {n:object} sent to {peer} again."),
    never("delivery.tried_now", _D, "{user} had {peer} tried at once."),
    never("peer.echoed", _D, "{user} asked {peer} for an echo."),
    never("peer.suspended", _O, "{user} suspended sending to {peer}."),
    never("peer.resumed", _D, "{user} resumed sending to {peer}."),
    never("peer.quieted", _O, "{user} said that {peer} is silent on purpose today."),
    never("pipeline.suspended", _O, "{user} suspended {pipeline}."),
    never("pipeline.resumed", _D, "{user} resumed {pipeline}."),
    never("pipeline.mode_set", _D, "{user} set {pipeline} to {mode}."),
    never("pipeline.priority_set", _D, "{user} set the priority of {pipeline} to {priority}."),
    never("pipeline.version_switched", _D, "{user} made {pipeline}[ {version}] live."),
    never("model.verified", _D, "{user} had {model} verified."),
    never("quarantine.released", _D, "{user} released {n:image}[: {why}]."),
    never("quarantine.deleted", _O, "{user} deleted {n:image} from quarantine."),
    never("user.changed", _D, "{user} changed {account}."),
)

EVENTS: tuple[Entry, ...] = _BY_NODE + _NOTICES + _BY_HAND
