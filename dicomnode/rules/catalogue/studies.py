"""What a study waits for, and why it was or was not analysed."""

from dicomnode.rules.catalogue.entry import Entry, Group, later, never

_W, _O, _D = Group.WAITING, Group.OFF, Group.DONE

STUDIES: tuple[Entry, ...] = (
    later(
        "study.receiving",
        _W,
        "{peer} is sending: {n:image} so far[, the last {last_at:ago} ago].",
        by_itself="waits until it stops",
        actions=("complete",),
    ),
    later(
        "study.waiting_quiet",
        _W,
        "Waiting for more images: {n:image} so far[, the last {last_at:ago} ago]"
        "[; analysis starts at {until_at} if none comes].",
        by_itself="at {until_at}",
        actions=("complete",),
    ),
    later(
        "study.waiting_connection",
        _W,
        "Waiting because the connection that brought this study from {peer} is still open; "
        "the quiet time of {quiet_s} starts when it closes.",
        by_itself="at {until_at} at the latest",
        actions=("complete",),
    ),
    later(
        "study.waiting_count",
        _W,
        "Waiting for {missing} of {expected:image} that {peer} says it has"
        "[; starts without them at {until_at}].",
        by_itself="asks again at {next_at}",
        actions=("complete",),
    ),
    later(
        "study.count_unknown",
        _W,
        "{peer} does not say how many images this study has[ ({status})]; "
        "the quiet time decides, at {until_at}.",
        by_itself="at {until_at}",
        actions=("complete",),
    ),
    later(
        "study.pending",
        _W,
        "Waiting until {n:image} that came again with other bytes {n:=is|are} compared with what "
        "is here.",
        by_itself="the worker compares",
    ),
    later(
        "study.routing",
        _W,
        "Complete[ with {n:image}]; which pipelines want it is decided next.",
        by_itself="within seconds",
    ),
    later(
        "study.waiting_series",
        _W,
        "{pipeline} waits for the series it needs[ ({wanted})]; {n:series} {n:=is|are} here"
        "[; deadline {until_at}].",
        by_itself="at {until_at}: {at_deadline}",
        actions=("complete",),
    ),
    later(
        "study.reopened",
        _W,
        "{n:image} came[ {age_s}] after the study was complete"
        "[ ({changed} of them again with other content)]; it is open, and results will be "
        "superseded.",
        by_itself="completes again",
    ),
    later(
        "study.revision",
        _W,
        "{n:image} came again with other content; what came last counts, what was there is kept.",
        by_itself="completes and is analysed again",
    ),
    never(
        "study.no_route",
        _O,
        "No pipeline wants this study; the nearest is {pipeline}, which wants {keyword} {wanted} "
        "and found {found}.",
        "No pipeline wants this study; the nearest is {pipeline}, which is {why}.",
        "No pipeline wants this study: none is switched on.",
        actions=("explain", "pipelines"),
    ),
    never(
        "study.no_series",
        _O,
        "No series of this study is a set of images that a pipeline could take.",
        actions=("explain",),
    ),
    never(
        "study.same_again",
        _D,
        "The same images were analysed before; the results[ of {at}] stand.",
        by_itself="nothing runs",
        actions=("reprocess",),
    ),
    never(
        "study.images_gone",
        _O,
        "Not analysed: {n:image} of it {n:=is|are} not kept here any more; "
        "have the study sent again.",
        by_itself="is analysed once they came again",
    ),
    never(
        "study.own_objects",
        _O,
        "These objects were made by this node; they are kept and start no work.",
        by_itself="nothing runs",
    ),
    never(
        "study.prior",
        _O,
        "These images were fetched to compare with; they are kept and start no work.",
        by_itself="purged first",
    ),
    never(
        "study.file_missing",
        Group.ATTENTION,
        "{n:image} that {n:=was|were} acknowledged {n:=is|are} missing from the storage.",
        by_itself="ask the sender to send again",
    ),
)
