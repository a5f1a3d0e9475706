"""Taking in what an admin released from quarantine."""

from sqlalchemy import Connection

from dicomnode.rules.reasons import Reason
from dicomnode.worklist import quarantine
from dicomnode.worklist.arrivals import Arrival, Taken
from dicomnode.worklist.events import Act
from dicomnode.worklist.instances import take_in


def release(tx: Connection, quarantine_id: int, act: Act) -> Taken | Reason | None:
    """Take something that is set aside into its study, whoever the patient is said to be.

    Returns
    -------
    What became of it (its file may have to be deleted), the reason why it cannot be taken, or None
    where it is not held any more.
    """
    found = quarantine.get(tx, quarantine_id)
    if found is None or found.state != quarantine.HELD:
        return None
    if found.arrival is None or found.path is None:
        return found.reason
    if found.why == "quarantine.uid_conflict":
        return found.reason
    quarantine.settle(tx, quarantine_id, quarantine.RELEASED, act)
    return take_in(tx, Arrival.of_data(found.arrival), act.now_ms, trusted=True)
