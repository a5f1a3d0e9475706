"""Coded concepts (PS3.16): a value, the scheme that defines it, and its meaning in words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept, for example ``Code("39607008", "SCT", "Lung")``.

    Two codes are the same concept when value and scheme agree; the meaning is for people.
    """

    value: str
    scheme: str
    meaning: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Code):
            return NotImplemented
        return (self.value, self.scheme) == (other.value, other.scheme)

    def __hash__(self) -> int:
        return hash((self.value, self.scheme))


# Concepts that pipelines of this package report. Codes and meanings as in PS3.16 context groups.
LUNG = Code("39607008", "SCT", "Lung")
TRACHEA_AND_BRONCHI = Code("44567001", "SCT", "Trachea")
SKELETON = Code("3138006", "SCT", "Bone")
BODY = Code("38266002", "SCT", "Entire body")
CHEST = Code("816094009", "SCT", "Chest")
NODULE = Code("27925004", "SCT", "Nodule")
MASS = Code("4147007", "SCT", "Mass")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion")
PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax")
CONSOLIDATION = Code("95436008", "SCT", "Consolidation of lung")
ABNORMAL_OPACITY = Code("112033", "DCM", "Abnormal Opacity")
