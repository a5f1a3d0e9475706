"""Why is this study waiting? The plain-words answer, what is in the way first to last."""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.rules.outcome import StudyStanding, attention, outcome, waits
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.states import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """What stands before a queued job.

    Parameters
    ----------
    ahead
        Jobs that the workers take before this one.
    has_worker
        Whether a worker that may take it is alive; ``device`` where it wants a certain one.
    seconds_per_job
        Usual time of a job; None where none was measured.
    """

    ahead: int
    has_worker: bool
    worker_count: int = 1
    device: str | None = None
    seconds_per_job: float | None = None


def queue_reason(queue: QueueFacts) -> Reason:
    """Give why a queued job does not run yet."""
    if not queue.has_worker:
        return Reason("job.no_worker", {} if queue.device is None else {"device": queue.device})
    told: dict[str, Parameter] = {"ahead": queue.ahead}
    if queue.seconds_per_job is not None:
        told["wait_s"] = (queue.ahead + 1) * queue.seconds_per_job / max(queue.worker_count, 1)
    return Reason("job.queued", told)


def explain(study: StudyStanding, queue: QueueFacts | None = None) -> list[Reason]:
    """Give every reason why a study is not finished; for a finished one what became of it.

    What needs a person comes first, then what is in the way from the images to the peer. With
    ``queue`` a queued job says how many are before it.
    """
    reasons = [*attention(study), *waits(study)]
    if queue is not None and any(job.state is JobState.QUEUED for job in study.counted_jobs):
        better = queue_reason(queue)
        reasons = [better if reason.code == "job.queued" else reason for reason in reasons]
    return list(dict.fromkeys(reasons)) or [outcome(study)[1]]
