"""Segment dense bone in CT: everything above a threshold that hangs together."""

from dicomnode.imaging.components import at_least
from dicomnode.sdk import Context, Declined, Findings, Match, Pipeline, Segment, Select, Volume
from dicomnode.sdk.codes import SKELETON


class DenseBone(Pipeline[Volume]):
    """Find bone of 300 HU or more in CT."""

    name, version = "dense-bone", "1.0.0"
    match = Match(modality="CT", image_type={"not": "LOCALIZER"})
    select = Select(minimum_slices=20, maximum_spacing_mm=5.0)

    def run(self, volume: Volume, context: Context) -> Findings | Declined:
        """Give one segment, in the volume's own grid."""
        bone = at_least(volume.array >= 300.0, voxels=50)
        if not bone.any():
            return Declined("there is no bone in these images")
        return Findings("Dense bone segmented.", segments=(Segment(bone, type=SKELETON),))
