"""Coded concepts that result objects are made of: value, scheme, meaning as in PS3.16.

Data only, known to the encoder and to the gate alike. Concepts that pipelines choose (what a
finding is, where it lies) stand in `dicomnode.sdk.codes`; the ones here are the node's own words.
"""

from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.sdk import Code, Laterality, Urgency

# Our own scheme; every code of it stands in docs/conformance.md.
PRIVATE_SCHEME = "99DICOMNODE"


# TID 1500 and its parts
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE = Code("121007", "DCM", "Device")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL_NUMBER = Code("121016", "DCM", "Device Observer Serial Number")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING = Code("121071", "DCM", "Finding")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
DERIVATION = Code("121401", "DCM", "Derivation")
SUMMARY_TEXT = Code("121111", "DCM", "Summary")
COMMENT = Code("121106", "DCM", "Comment")

# What a segment is
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
UNSPECIFIED_FINDING = Code("404684003", "SCT", "Finding")

# Numbers
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
DIAMETER = Code("81827009", "SCT", "Diameter")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
PROBABILITY = Code("122157", "DCM", "Probability")

# Units, UCUM
MILLIMETRE = Code("mm", "UCUM", "mm")
CUBIC_MILLIMETRE = Code("mm3", "UCUM", "cubic millimeter")
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNIT = Code("1", "UCUM", "no units")

UNITS: Mapping[str, Code] = MappingProxyType(
    {u.value: u for u in (MILLIMETRE, CUBIC_MILLIMETRE, CUBIC_CENTIMETRE, HOUNSFIELD, NO_UNIT)}
    | {
        "mm2": Code("mm2", "UCUM", "square millimeter"),
        "cm2": Code("cm2", "UCUM", "square centimeter"),
        "cm": Code("cm", "UCUM", "cm"),
        "%": Code("%", "UCUM", "Percent"),
        "{ratio}": Code("{ratio}", "UCUM", "ratio"),
    }
)

# Statements
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
LEVEL_OF_SIGNIFICANCE = Code("121403", "DCM", "Level of Significance")
SIGNIFICANCE: Mapping[Urgency, Code] = MappingProxyType(
    {
        Urgency.HIGHLY_SIGNIFICANT: Code("371926006", "SCT", "Highly significant"),
        Urgency.SIGNIFICANT: Code("386134007", "SCT", "Significant"),
        Urgency.NOT_SIGNIFICANT: Code("371928007", "SCT", "Not significant"),
    }
)

# Run summary: (111017, DCM) of every report
RUN_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
ALL_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
ALL_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
SOME_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
SOME_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")

# Sides
SIDES: Mapping[Laterality, Code] = MappingProxyType(
    {
        Laterality.RIGHT: Code("24028007", "SCT", "Right"),
        Laterality.LEFT: Code("7771000", "SCT", "Left"),
        Laterality.BILATERAL: Code("51440002", "SCT", "Bilateral"),
    }
)
# Sites of which a patient has two, so that a place without a side names none of them.
PAIRED_SITES = frozenset(
    {
        Code("39607008", "SCT", "Lung"),
        Code("31094006", "SCT", "Lobe of lung"),
        Code("45653009", "SCT", "Upper lobe of lung"),
        Code("90572001", "SCT", "Lower lobe of lung"),
        Code("64033007", "SCT", "Kidney"),
        Code("3120008", "SCT", "Pleura"),
    }
)

# Procedures; 399208008 and 113091000 are SNOMED CT concepts that pydicom's dictionary lacks.
_PROCEDURES: Mapping[str, Code] = MappingProxyType(
    {
        "CT": Code("77477000", "SCT", "Computed tomography"),
        "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
        "DX": Code("168537006", "SCT", "Plain radiography"),
        "CR": Code("168537006", "SCT", "Plain radiography"),
    }
)
_CHEST_RADIOGRAPH = Code("399208008", "SCT", "Plain chest X-ray")
_OTHER_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
RADIOGRAPH_MODALITIES = frozenset({"CR", "DX", "MG", "RG", "RF", "IO", "PX"})


def procedure(modality: str, body_part: str) -> Code:
    """Give the procedure that a report on images of this modality and body part is about."""
    if modality in {"CR", "DX"} and body_part.upper() in {"CHEST", "THORAX"}:
        return _CHEST_RADIOGRAPH
    return _PROCEDURES.get(modality, _OTHER_PROCEDURE)
