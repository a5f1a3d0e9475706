"""The node's codes as highdicom wants them."""

from highdicom.sr.coding import CodedConcept

from dicomnode.dicom.codes import UNITS
from dicomnode.sdk import Code


def concept(code: Code) -> CodedConcept:
    """Give ``code`` as a coded concept of a DICOM code sequence (PS3.3 8.8)."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def unit(text: str) -> CodedConcept:
    """Give a UCUM unit; one that the node does not know by name means itself."""
    return concept(UNITS.get(text) or Code(text, "UCUM", text))
