"""Private concepts of this pipeline's measurements (scheme 99DICOMNODE)."""

from dicomnode.sdk import Code

AERATED_VOLUME = Code("triage-aerated-volume", "99DICOMNODE", "Volume of aerated lung")
AERATED_RATIO = Code("triage-aerated-ratio", "99DICOMNODE", "Ratio of aerated lung of both sides")
SIGN_VOLUME = Code("118565006", "SCT", "Volume")
ASYMMETRY = Code(
    "triage-field-asymmetry", "99DICOMNODE", "Difference of lung fields in usual spreads"
)
SPOT_COUNT = Code("triage-spot-count", "99DICOMNODE", "Number of rounded opacities")
