"""How often each radiograph rule fires on labelled images, by source and by patient.

``python -m pipelines.chest_triage.evaluate FOLDER`` reads ``FOLDER/labels.csv`` (columns file,
label, source, patient) and writes one JSON document. Patients are halved by a digest of their
number: thresholds are proposed on the normal adults of one half, figures are of the other half.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from dicomnode.sdk import Image, PixelSpacingOrigin
from pipelines.chest_triage.field_signs import FieldMeasures
from pipelines.chest_triage.radiograph import (
    FAINTEST_CONTRAST,
    MANY_SPOTS,
    ONE_SIDED_SPREADS,
    analyse,
    one_sided_score,
    strong_spots,
)

# Children's ribs answer like spots, so they take no part in choosing.
ADULT_SOURCES = ("nih", "nih-64px")
ALLOWED_FALSE_ALARMS = 0.01


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled image with its measures."""

    source: str
    patient: str
    is_normal: bool
    is_choosing: bool
    measures: FieldMeasures

    @property
    def fired(self) -> dict[str, bool]:
        """Which rules fire at the thresholds of the pipeline."""
        is_judged = self.measures.fields.contrast >= FAINTEST_CONTRAST
        one_sided = is_judged and abs(one_sided_score(self.measures)[0]) >= ONE_SIDED_SPREADS
        many = is_judged and bool(strong_spots(self.measures))
        return {"one-sided": one_sided, "many spots": many, "any": one_sided or many}


def judged(folder: Path) -> list[Judged]:
    """Measure every image named in ``folder/labels.csv``."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    device = torch.device("cpu")
    results = []
    for row in rows:
        grey = np.asarray(Picture.open(folder / row["file"]).convert("L"), dtype=np.float32)
        scaled = (grey / 255.0).astype(np.float32)
        image = Image(scaled, None, PixelSpacingOrigin.NONE, row.get("view", ""))
        half = hashlib.sha256(row["patient"].encode()).digest()[0] % 2
        _, measures = analyse(image, device)
        is_normal = row["label"] == "normal"
        results.append(Judged(row["source"], row["patient"], is_normal, half == 0, measures))
    return results


def proposal(images: Iterable[Judged]) -> dict[str, object]:
    """Usual differences and thresholds from the normal adults of the choosing half."""
    normal = [
        i.measures for i in images if i.is_choosing and i.is_normal and i.source in ADULT_SOURCES
    ]
    differences = np.array([measures.differences() for measures in normal])
    spots = [
        m.spots[MANY_SPOTS - 1].strength if len(m.spots) >= MANY_SPOTS else 0.0 for m in normal
    ]
    scores = [abs(one_sided_score(measures)[0]) for measures in normal]
    rank = 100.0 * (1.0 - ALLOWED_FALSE_ALARMS)
    return {
        "images": len(normal),
        "usual difference": np.round(differences.mean(axis=0), 3).tolist(),
        "usual spread": np.round(differences.std(axis=0), 3).tolist(),
        "one-sided spreads": round(float(np.percentile(scores, rank)), 2),
        "spot strength": round(float(np.percentile(spots, rank)), 4),
    }


def figures(images: Iterable[Judged]) -> list[dict[str, object]]:
    """Count patients of the reporting half in whom a rule fires on at least one image."""
    groups: dict[tuple[str, str], list[Judged]] = {}
    for image in images:
        if not image.is_choosing:
            label = "normal" if image.is_normal else "abnormal"
            groups.setdefault((image.source, label), []).append(image)
    table: list[dict[str, object]] = []
    for (source, label), members in sorted(groups.items()):
        patients = {image.patient for image in members}
        for rule in ("one-sided", "many spots", "any"):
            fired = {image.patient for image in members if image.fired[rule]}
            low, high = wilson(len(fired), len(patients))
            table.append(
                {
                    "source": source,
                    "label": label,
                    "rule": rule,
                    "patients": len(patients),
                    "fired": len(fired),
                    "percent": round(100 * len(fired) / len(patients), 1),
                    "interval": [round(100 * low, 1), round(100 * high, 1)],
                    "images": len(members),
                    "images fired": sum(image.fired[rule] for image in members),
                }
            )
    return table


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z = 1.959964
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = share * (1 - share) / count + z * z / (4 * count * count)
    half = z * math.sqrt(spread) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def main() -> None:
    """Evaluate the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    images = judged(parser.parse_args().folder)
    json.dump({"proposal": proposal(images), "figures": figures(images)}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
