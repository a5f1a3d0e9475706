"""How fast a CT series becomes a calibrated volume, beside SimpleITK's series reader.

``python -m benchmarks.load [--slices 300] [--rounds 5]``; both give the same numbers, or it fails.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  as its own manual calls it

from dicomnode.dicom.volumes import Loaded, load
from tests.data import ct_series, save_all


def by_simpleitk(paths: list[Path]) -> np.ndarray:
    """Read the files, in order already, as SimpleITK does; ``(z, y, x)``."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return sitk.GetArrayFromImage(reader.Execute())


def main() -> None:
    """Print both medians in seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = save_all(ct_series(slices=wanted.slices, rows=512), Path(folder))
        for _ in range(wanted.rounds):
            started = time.perf_counter()
            loaded = load(paths, "volume")
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            reference = by_simpleitk(paths)
            theirs.append(time.perf_counter() - started)
            if not isinstance(loaded, Loaded):
                raise SystemExit(f"declined: {loaded}")
            if not np.array_equal(loaded.input.array, reference.astype(np.float32)):
                raise SystemExit("both readers differ")
    first, second = statistics.median(ours), statistics.median(theirs)
    print(f"{wanted.slices} slices of 512 x 512, medians of {wanted.rounds} interleaved rounds")
    print(f"dicomnode {first:.2f} s   SimpleITK {second:.2f} s   theirs/ours {second / first:.2f}")


if __name__ == "__main__":
    main()
