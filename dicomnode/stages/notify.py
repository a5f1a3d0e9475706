"""Sends what `notifications` holds: to the log, and as signed JSON to webhooks."""

from __future__ import annotations

import threading
from http.client import HTTPException

from dicomnode.config import Settings, Webhook
from dicomnode.errors import LeaseLostError, PeerError
from dicomnode.network import webhook
from dicomnode.rules.reasons import Parameter, Reason
from dicomnode.rules.retry import GiveUp, next_notification_try
from dicomnode.rules.states import NotificationState
from dicomnode.stages.loop import run_steps
from dicomnode.stages.notices import LOG
from dicomnode.telemetry import logger
from dicomnode.worklist import notifications
from dicomnode.worklist.database import Worklist
from dicomnode.worklist.notifications import Notification
from dicomnode.worklist.signals import Channel

_WAIT_S = 5.0
_LEASE_MS = 120_000
_TIMEOUT_S = 10.0
# Its receiver is not in the configuration, or has no address there: nothing is tried again.
_GIVEN_UP = "notification.given_up"


class Notify:
    """The stage ``notify``: one unit is one message."""

    def __init__(self, worklist: Worklist, settings: Settings, owner: str) -> None:
        self._worklist = worklist
        self._webhooks = settings.notify
        self._owner = owner
        self._log = logger("notify")

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set."""
        run_steps(
            self.step,
            lambda: self._worklist.wait(_WAIT_S, Channel.NOTIFICATIONS),
            stop,
            self._log,
        )

    def step(self) -> bool:
        """Send the message that is due longest; tell whether there was one."""
        claimed = notifications.claim_next(self._worklist, owner=self._owner, lease_ms=_LEASE_MS)
        if claimed is None:
            return False
        refusal = self._send(claimed)
        try:
            self._settle(claimed, refusal)
        except LeaseLostError:
            self._log.warning("lease_lost", notification=claimed.id)
        return True

    def _send(self, claimed: Notification) -> Reason | None:
        """Send a message; give why it did not arrive."""
        if claimed.channel == LOG:
            self._log.info("notification", notification=claimed.id, **claimed.body)
            return None
        told: dict[str, Parameter] = {"target": claimed.target}
        hook = self._webhooks.get(claimed.target)
        if hook is None:
            cause = "it is not in the settings any more"
            return Reason(_GIVEN_UP, {**told, "n": claimed.tries, "cause": cause})
        message = {"id": claimed.id, **claimed.body}
        try:
            status = webhook.post(hook.url, message, secret=_secret(hook), timeout_s=_TIMEOUT_S)
        except (PeerError, OSError) as fault:
            cause = str(fault) if isinstance(fault, PeerError) else "its secret cannot be read"
            return Reason("notification.no_answer", {**told, "cause": cause})
        except (ValueError, HTTPException) as fault:
            # No try would find a way to such an address.
            cause = f"its url is no web address: {fault}"
            return Reason(_GIVEN_UP, {**told, "n": claimed.tries, "cause": cause})
        if webhook.is_success(status):
            return None
        return Reason("notification.refused", {"target": claimed.target, "status": str(status)})

    def _settle(self, claimed: Notification, refusal: Reason | None) -> None:
        now_ms = self._worklist.now()
        with self._worklist.write() as tx:
            if refusal is None:
                state = NotificationState.SENT
                notifications.finish(tx, claimed.id, claimed.fence, state, now_ms)
                return
            decided = next_notification_try(claimed.tries, refusal, now_ms)
            if refusal.code == _GIVEN_UP:
                decided = GiveUp(refusal)
            if isinstance(decided, GiveUp):
                state = NotificationState.FAILED
                notifications.finish(tx, claimed.id, claimed.fence, state, now_ms, decided.reason)
                return
            told = Reason(refusal.code, {**refusal.parameters, "next_at": decided.at_ms})
            notifications.retry_later(
                tx, claimed.id, claimed.fence, at_ms=decided.at_ms, reason=told
            )


def _secret(hook: Webhook) -> bytes:
    return b"" if hook.secret_file is None else hook.secret_file.read_bytes().strip()
