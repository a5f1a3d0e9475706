"""The catalogue of sentences: each "no", each wait and each event of the node in plain words.

Rows keep a code and parameters; page, command line, API, mail and SR render the same sentence.
This is data; `dicomnode.rules.sentences` renders it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.rules.catalogue.arrivals import ARRIVALS
from dicomnode.rules.catalogue.deliveries import DELIVERIES
from dicomnode.rules.catalogue.entry import ORDER, Again, Entry, Group
from dicomnode.rules.catalogue.events import EVENTS
from dicomnode.rules.catalogue.jobs import JOBS
from dicomnode.rules.catalogue.nodes import NODES
from dicomnode.rules.catalogue.studies import STUDIES

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {entry.code: entry for entry in (*STUDIES, *JOBS, *DELIVERIES, *ARRIVALS, *NODES, *EVENTS)}
)

__all__ = ["CATALOGUE", "ORDER", "Again", "Entry", "Group"]
