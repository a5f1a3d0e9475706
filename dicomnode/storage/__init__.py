"""Bytes on disk: names of our own, durable writes, reads, deletes, free space.

Knows no rows and no DICOM. Names never derive from anything that a peer said.
"""

from dicomnode.storage.folder import FreeSpace, ResultName, Storage

__all__ = ["FreeSpace", "ResultName", "Storage"]
