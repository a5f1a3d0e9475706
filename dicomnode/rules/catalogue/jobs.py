"""Where a job is, why an input was declined, and why a job failed."""

from dicomnode.rules.catalogue.entry import Entry, Group, later, never

_W, _R, _D, _N = Group.WAITING, Group.RUNNING, Group.DONE, Group.DECLINED
_H, _A, _O = Group.HELD, Group.ATTENTION, Group.OFF

_JOBS: tuple[Entry, ...] = (
    later(
        "job.queued",
        _W,
        "Waiting for a free worker: {ahead:job} {ahead:=is|are} ahead[, about {wait_s}].",
        "Waiting for a free worker.",
        by_itself="starts by itself",
        actions=("priority", "cancel"),
    ),
    later(
        "job.no_worker",
        _H,
        "Waiting, and no worker runs[ for {device}]; nothing starts until one does.",
        by_itself="starts once a worker runs",
        actions=("health",),
    ),
    later(
        "job.outside_hours",
        _W,
        "Waiting for the hours of {pipeline}[; starts at {until_at}].",
        by_itself="at {until_at}",
        actions=("priority", "cancel"),
    ),
    later(
        "job.suspended",
        _H,
        "{pipeline} is suspended[ since {since_at}][ by {user}]; the job waits.",
        actions=("resume",),
    ),
    later(
        "job.loading_model",
        _R,
        "Loading {model}[ {version}][ since {since_at:ago}][; usually {usual_s}].",
        by_itself="then runs",
    ),
    later(
        "job.running",
        _R,
        "Running on {device}: {stage}, {percent} % after {since_at:ago}[; usually {usual_s}]"
        "[, stopped at {limit_s}].",
        "Running[ on {device}][: {stage}].",
        actions=("cancel",),
    ),
    later(
        "job.retry_later",
        _W,
        "Try {n} of {max} failed[ ({reason})][; the next is at {next_at}].",
        "A try failed[ ({reason})][; the next is at {next_at}].",
        by_itself="at {next_at}",
        actions=("retry", "cancel"),
    ),
    later(
        "job.lease_lost",
        _W,
        "{worker} is silent[ since {since_at:ago}]; another takes the job[ as try {n} of "
        "{max}], and what the old one still writes is discarded.",
        by_itself="starts by itself",
    ),
    later(
        "job.encoding_again",
        _W,
        "What {peer} had received changed while the results were made; they are encoded once more.",
        by_itself="starts by itself",
    ),
    never(
        "job.done",
        _D,
        "Done[ in {duration_s}]: {n:finding}, {m:segment}"
        "[; in smaller parts on {smaller_on}, because memory ran out].",
        actions=("show",),
    ),
    never(
        "job.nothing_found",
        _D,
        "Done[ in {duration_s}]: nothing that {pipeline} reports was found[ (limits: {limits})].",
        actions=("show",),
    ),
    never(
        "job.cancelled",
        _O,
        "Cancelled[ at {at}][ by {user}]; no results were made.",
        actions=("retry",),
    ),
    never(
        "job.superseded",
        _O,
        "Superseded by job {job}, because {n:image} {n:=was|were} added or changed.",
        "Superseded[ by job {job}].",
        actions=("show",),
    ),
    never(
        "job.shadow",
        _O,
        "Ran in shadow[ beside {version}]; results are kept for comparison and sent to nobody.",
        actions=("compare",),
    ),
)

_DECLINED: tuple[Entry, ...] = (
    never(
        "declined.too_few",
        _N,
        "Not analysed: the best series[ ({series})] has {n:slice}, {pipeline} needs {min}.",
        "Not analysed: the best series has fewer slices than {pipeline} needs.",
        by_itself="starts when more come",
    ),
    never(
        "declined.gap",
        _N,
        "Not analysed: {n:slice} {n:=is|are} missing[ at {places:place}]"
        "[ near z = {z} mm][ in series {series}]"
        "[ ({slices})].",
        by_itself="starts when they come",
    ),
    never(
        "declined.geometry",
        _N,
        "Not analysed: series {series} is not one straight stack[ ({cause}[: {slices}])].",
        "Not analysed: the images are not one straight stack[ ({cause}[: {slices}])].",
        actions=("series",),
    ),
    never(
        "declined.mixed",
        _N,
        "Not analysed: the images of one series[ {series}] differ in {keyword}[ ({slices})].",
        actions=("series",),
    ),
    never(
        "declined.header",
        _N,
        "Not analysed: {keyword} of {n:image}[ of series {series}] is missing or invalid, and no "
        "result could repeat it.",
        "Not analysed: {keyword} is missing or invalid, and no result could repeat it.",
        by_itself="ask the sender to correct it",
        actions=("series",),
    ),
    never(
        "declined.outside_limits",
        _N,
        "Not analysed: {keyword} is {found}, {pipeline} takes {wanted}.",
    ),
    never(
        "declined.body_part",
        _N,
        "Not analysed: the images do not look like {wanted}.",
        actions=("show",),
    ),
    never(
        "declined.image_kind",
        _N,
        "Not analysed: only {kind} images are here[; {pipeline} takes {wanted}].",
        by_itself="starts when others come",
    ),
    never(
        "declined.no_pixels",
        _N,
        "Not analysed: {n:object} of the series {n:=has|have} no image in {n:=it|them}.",
        "Not analysed: there is no image in these objects.",
    ),
    never(
        "declined.calibration",
        _N,
        "Not analysed: the images carry no calibration to {unit}.",
    ),
    never(
        "declined.transfer_syntax",
        _N,
        "Not analysed: this node cannot decode {transfer_syntax}.",
        by_itself="ask the sender for another transfer syntax",
    ),
    never(
        "declined.not_decodable",
        _N,
        "Not analysed: the pixels of {n:image} cannot be decoded[ ({slices})].",
        actions=("series",),
    ),
    never(
        "declined.too_large",
        _N,
        "Not analysed: the images need {need_bytes} of memory[, {limit_bytes} are allowed].",
    ),
    never(
        "declined.series_missing",
        _N,
        "Not analysed: {pipeline} needs a series that did not come[ ({wanted})].",
        by_itself="starts when it comes",
    ),
    never(
        "declined.pipeline",
        _N,
        "Not analysed: {text}",
        "Not analysed: {pipeline} declined the images.",
    ),
)

_FAILED: tuple[Entry, ...] = (
    never(
        "failed.memory",
        _A,
        "Failed: {need_bytes} of memory was needed and {free_bytes} were free, "
        "in smaller parts too.",
        "Failed: memory ran out[ ({limit_bytes} are allowed)], in smaller parts too.",
        actions=("health", "retry"),
        short="memory",
    ),
    never(
        "failed.time_limit",
        _A,
        "Failed: stopped after {limit_s}.",
        actions=("retry",),
        short="time limit",
    ),
    never(
        "failed.crashed",
        _A,
        "Failed: the analysis process died[ ({signal})]; the worker goes on with other jobs.",
        actions=("retry", "log"),
        short="the analysis process died",
    ),
    never(
        "failed.killed",
        _A,
        "Failed: the analysis process was killed from outside[ ({signal})], most often because "
        "the machine ran out of memory; the worker goes on with other jobs.",
        actions=("health", "retry"),
        short="killed, most often for memory",
    ),
    never(
        "failed.worker_lost",
        _A,
        "Failed: {n:worker} died or fell silent over this job; it is set aside.",
        actions=("retry", "log"),
        short="worker lost",
    ),
    never(
        "failed.error",
        _A,
        "Failed: {pipeline} stopped with {error_class}[ in {stage}][ (log {reference})].",
        "Failed: {pipeline} stopped with an error[ in {stage}][ (log {reference})].",
        actions=("retry", "log"),
        short="an error in the pipeline",
    ),
    never(
        "failed.rule_broken",
        _A,
        "Failed: {pipeline} gave a result that is not allowed[ ({rule})].",
        actions=("retry", "log"),
        short="a result that is not allowed",
    ),
    never(
        "failed.model",
        _A,
        "Failed: {model} is missing or its checksum is wrong.",
        actions=("verify model", "retry"),
        short="model",
    ),
    never(
        "failed.source",
        _A,
        "Failed: {n:stored image} cannot be read back (checksum).",
        by_itself="ask {peer} to send again",
        actions=("retry",),
        short="stored images damaged",
    ),
    never(
        "failed.pipeline_missing",
        _A,
        "Failed: {pipeline} is not installed here or cannot be loaded.",
        actions=("pipelines", "retry"),
        short="pipeline missing",
    ),
    never(
        "failed.settings",
        _A,
        "Failed: the settings of {pipeline} are wrong[ ({keyword})].",
        actions=("check", "retry"),
        short="wrong settings",
    ),
    never(
        "failed.disk_full",
        _A,
        "Failed: no room is left for the results[; {free_bytes} are free].",
        actions=("health", "retry"),
        short="disk full",
    ),
    never(
        "failed.gate",
        _A,
        "Results held back: {n} of {m:check} failed[ ({rule})]. Nothing was sent.",
        actions=("checks", "retry"),
        short="results held back",
    ),
)

JOBS: tuple[Entry, ...] = _JOBS + _DECLINED + _FAILED
