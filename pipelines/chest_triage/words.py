"""Private concepts of this pipeline's signs and measurements (scheme 99DICOMNODE).

A sign is coded as what its rule saw, never as a disease that may look so.
"""

from dicomnode.sdk import Code

RIB_FLUID = Code("triage-rib-fluid", "99DICOMNODE", "Fluid density against the ribs")
BARE_AIR = Code("triage-bare-air", "99DICOMNODE", "Air without lung texture")
UNEVEN_AERATION = Code("triage-uneven", "99DICOMNODE", "Asymmetric lung aeration")

AERATED_VOLUME = Code("triage-aerated-volume", "99DICOMNODE", "Volume of aerated lung")
AERATED_RATIO = Code("triage-aerated-ratio", "99DICOMNODE", "Ratio of aerated lung of both sides")
SIGN_VOLUME = Code("118565006", "SCT", "Volume")
ASYMMETRY = Code(
    "triage-field-asymmetry", "99DICOMNODE", "Difference of lung fields in usual spreads"
)
SPOT_COUNT = Code("triage-spot-count", "99DICOMNODE", "Number of rounded opacities")
