"""What a pipeline author imports. Small, typed, stable; knows nothing else of the node."""

from dicomnode.sdk.codes import Code
from dicomnode.sdk.findings import (
    Assessment,
    Declined,
    Finding,
    Findings,
    Laterality,
    Measurement,
    Outline,
    Probability,
    Segment,
    Sign,
    Urgency,
)
from dicomnode.sdk.match import (
    Match,
    Preference,
    Select,
    most_slices,
    soft_kernel,
    thinnest_slices,
)
from dicomnode.sdk.pipeline import Cancelled, Context, NoSettings, Pipeline
from dicomnode.sdk.volume import Image, Images, PixelSpacingOrigin, SeriesInfo, Volume

__all__ = [
    "Assessment",
    "Cancelled",
    "Code",
    "Context",
    "Declined",
    "Finding",
    "Findings",
    "Image",
    "Images",
    "Laterality",
    "Match",
    "Measurement",
    "NoSettings",
    "Outline",
    "Pipeline",
    "PixelSpacingOrigin",
    "Preference",
    "Probability",
    "Segment",
    "Select",
    "SeriesInfo",
    "Sign",
    "Urgency",
    "Volume",
    "most_slices",
    "soft_kernel",
    "thinnest_slices",
]
