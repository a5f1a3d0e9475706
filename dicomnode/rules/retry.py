"""May this be tried again, and when? Decides and does nothing else.

Layers do not multiply: what is asked here is the only place that tries again.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.rules.reasons import Again, Reason, entry_of

# Waits after the first and second failed try of a job; three tries in all.
JOB_WAITS_S = (30, 120)
# Waits after a worker or the analysis process was lost; the third loss parks the job.
LOSS_WAITS_S = (0, 30)
# Waits after each refusal of a delivery or notification: five more tries.
LADDER_S = (30, 120, 600, 3600, 21600)
PEER_BACK_OFF_S = (5, 300)

# Failures that the same input, program and node would only repeat.
_FINAL_FAILURES = frozenset(
    {
        "failed.gate",
        "failed.model",
        "failed.pipeline_missing",
        "failed.rule_broken",
        "failed.settings",
        "failed.source",
    }
)
# The peer as a whole does not take anything: no delivery's tries are used up.
PEER_DOWN = frozenset(
    {"delivery.peer_down", "delivery.connection_refused", "delivery.suspended", "peer.down"}
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Again, not before ``at_ms``; ``counts`` tells whether it used up a try."""

    at_ms: int
    counts: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Not again by itself, and the reason that the row ends with."""

    reason: Reason


def next_job_try(tries: int, reason: Reason, now_ms: int) -> Retry | GiveUp:
    """Decide after a job's try failed with ``reason``.

    Parameters
    ----------
    tries
        Tries made so far, the failed one among them.
    """
    is_declined = reason.code.startswith("declined.")
    if is_declined or reason.code in _FINAL_FAILURES or tries > len(JOB_WAITS_S):
        return GiveUp(reason)
    return Retry(now_ms + JOB_WAITS_S[max(tries, 1) - 1] * 1000)


def next_after_loss(losses: int, now_ms: int, reason: Reason | None = None) -> Retry | GiveUp:
    """Decide after a lease ran out or the analysis process was killed.

    Parameters
    ----------
    losses
        Losses of this job so far, this one among them; they count apart from its tries.
    reason
        How it was lost, where that is known; the job ends with it.
    """
    if losses > len(LOSS_WAITS_S):
        return GiveUp(reason or Reason("failed.worker_lost", {"n": losses}))
    return Retry(now_ms + LOSS_WAITS_S[max(losses, 1) - 1] * 1000, counts=False)


def next_delivery_try(
    refusals: int, reason: Reason, now_ms: int, jitter: float = 0.0
) -> Retry | GiveUp:
    """Decide after a delivery did not get everything stored.

    Parameters
    ----------
    refusals
        Refusals so far, this one among them; a peer that is down adds none.
    jitter
        Between -1 and 1: moves the next try by up to a fifth of the wait.
    """
    if reason.code in PEER_DOWN:
        # When is decided by the peer's own back-off, which holds all of its deliveries.
        return Retry(now_ms, counts=False)
    if entry_of(reason).retry is Again.NEVER:
        return GiveUp(reason)
    return _ladder(refusals, now_ms, jitter) or GiveUp(_given_up("delivery", refusals, reason))


def next_notification_try(
    refusals: int, reason: Reason, now_ms: int, jitter: float = 0.0
) -> Retry | GiveUp:
    """Decide after a notification did not leave."""
    return _ladder(refusals, now_ms, jitter) or GiveUp(_given_up("notification", refusals, reason))


def peer_back_off(failures: int) -> int:
    """Give the seconds until a peer that is down is tried again: 5, doubling, 300 at most."""
    least, most = PEER_BACK_OFF_S
    return most if failures > 7 else min(least * 2 ** max(failures - 1, 0), most)


def _ladder(refusals: int, now_ms: int, jitter: float) -> Retry | None:
    if refusals > len(LADDER_S):
        return None
    wait_s = LADDER_S[max(refusals, 1) - 1] * (1 + 0.2 * max(-1.0, min(jitter, 1.0)))
    return Retry(now_ms + round(wait_s * 1000))


def _given_up(kind: str, refusals: int, reason: Reason) -> Reason:
    kept = {name: reason.parameters.get(name) for name in ("peer", "target", "status")}
    # A reason without words of the peer's answer is told by its own short words.
    words = reason.parameters.get("status_words") or reason.code
    told = {**kept, "status_words": words, "n": refusals}
    return Reason(f"{kind}.given_up", {k: v for k, v in told.items() if v is not None})
