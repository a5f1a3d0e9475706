"""UIDs: which ones may come in, and how the node derives its own.

Two questions are kept apart. A receiver asks `is_usable_uid`: scanners do send components with
leading zeros, and an image is not refused for that. What the node writes itself must satisfy
`is_valid_uid`, the rule of PS3.5 9.1. Neither makes a UID fit for a path or a log line.
"""

import re
import uuid

_USABLE = re.compile(r"[0-9.]{1,64}")
_VALID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
LONGEST_UID = 64

# Fixed for ever: another namespace would give every result another UID.
_NAMESPACE = uuid.UUID("c9d1d2a6-3bdc-48be-9afa-a85411c65f10")


def is_usable_uid(text: str) -> bool:
    """Tell whether an object may be filed under ``text``: 1 to 64 digits and dots, one a digit."""
    return _USABLE.fullmatch(text) is not None and text.strip(".") != ""


def is_valid_uid(text: str) -> bool:
    """Tell whether ``text`` is a UID by PS3.5 9.1: at most 64 characters, no leading zeros."""
    return len(text) <= LONGEST_UID and _VALID.fullmatch(text) is not None


def derived_uid(*parts: str) -> str:
    """Give the UID (PS3.5 B.2: ``2.25.`` and a UUID) that these parts in this order always give."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


def device_uid(node_id: str) -> str:
    """Give the UID under which a node names itself as a device in what it writes."""
    return derived_uid("device", node_id)


IMPLEMENTATION_CLASS_UID = derived_uid("implementation class")
IMPLEMENTATION_VERSION_NAME = "DICOMNODE_0_1"
