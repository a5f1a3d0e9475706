"""DICOM node: receives studies, analyses them, returns the results. Research use only."""

from importlib.metadata import version

__version__ = version("dicomnode")
