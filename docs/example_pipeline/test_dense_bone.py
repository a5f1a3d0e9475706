"""A ball of known size is found whole, and a volume without bone is declined."""

from dense_bone import DenseBone

from dicomnode.imaging.phantoms import sphere
from dicomnode.imaging.phantoms.solids import Setting
from dicomnode.sdk import Context, Declined, Findings


def test_a_ball_of_bone_is_found_and_soft_tissue_is_not() -> None:
    ball = sphere(20.0, Setting(value_hu=800.0)).volume()
    found = DenseBone().run(ball, Context.for_test())
    assert isinstance(found, Findings)
    assert abs(found.segments[0].mask.sum() * ball.voxel_volume_mm3 / 4188.8 - 1) < 0.1
    assert isinstance(DenseBone().run(sphere(20.0).volume(), Context.for_test()), Declined)
