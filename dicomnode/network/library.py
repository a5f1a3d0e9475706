"""The switches of pynetdicom that this room relies on, set once, where the library is first used.

pynetdicom keeps them as module globals; nothing else in the node touches them.
"""

from pynetdicom import _config

# Its standard handlers write whole data sets to the log, and cost a sixth of the receiving rate.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# A file is sent as its bytes lie on disk, never decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

# Largest PDU before an association is established. 128 presentation contexts with 40 transfer
# syntaxes each stay below 200 kB.
LARGEST_EARLY_PDU = 1 << 20
# PS3.8 9.3.5: a P-DATA-TF PDU may carry headers beyond the negotiated length.
PDU_SLACK = 1024
