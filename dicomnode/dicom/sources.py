"""The source images behind a loaded volume, for those who build and check results.

`dicomnode.dicom.volumes.load` makes these in the same pass as the volume, so that frame ``i`` of a
result can only refer to the image whose pixels became slice ``i``.
"""

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """Headers, without pixels, of exactly the images that were loaded.

    Parameters
    ----------
    datasets
        Of a volume: one per slice in the order of array axis 0, or the one enhanced multi-frame
        object. Of 2D images: one per image, in the order of `dicomnode.sdk.Images`. Their
        ``file_meta`` is kept; bulk data is not.
    is_volume
        Whether the images form a volume.
    paths
        The file of each member of ``datasets``.
    frame_numbers
        Of an enhanced multi-frame object: for each slice of the volume the frame, counted from 1.
        None for single-frame images.
    """

    datasets: tuple[Dataset, ...]
    is_volume: bool
    paths: tuple[Path, ...] = ()
    frame_numbers: tuple[int, ...] | None = None

    def image_of(self, index: int) -> tuple[Dataset, int | None]:
        """Give the header, and the frame number if it has several, of slice or image ``index``."""
        if self.frame_numbers is None:
            return self.datasets[index], None
        return self.datasets[0], self.frame_numbers[index]
