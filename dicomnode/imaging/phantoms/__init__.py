"""Images whose answers are known: solids, a chest CT and a chest radiograph, drawn from a seed.

They are drawn by geometry alone, so that a test compares a measurement with the formula that made
the image and never with the code under test. The same arguments give the same bytes. Nothing here
looks at a real patient.
"""

from dicomnode.imaging.phantoms.chest import (
    DEFAULT_NODULES,
    ChestPhantom,
    ChestSigns,
    NodulePlace,
    NoduleSpec,
    PhantomNodule,
    chest_ct,
)
from dicomnode.imaging.phantoms.radiograph import Opacity, RadiographPhantom, chest_radiograph
from dicomnode.imaging.phantoms.solids import SolidPhantom, box, ellipsoid, sphere

__all__ = [
    "DEFAULT_NODULES",
    "ChestPhantom",
    "ChestSigns",
    "NodulePlace",
    "NoduleSpec",
    "Opacity",
    "PhantomNodule",
    "RadiographPhantom",
    "SolidPhantom",
    "box",
    "chest_ct",
    "chest_radiograph",
    "ellipsoid",
    "sphere",
]
