"""The package that ``pipeline new`` writes: a pipeline that runs as it is, and its test."""

from __future__ import annotations

import re
from pathlib import Path

from dicomnode.errors import ConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_PIPELINE = '''\
"""{title}: replace the rule below by what it shall find."""

from dicomnode.sdk import Code, Context, Finding, Findings, Match, Pipeline, Segment, Volume

DENSE = Code("112033", "DCM", "Abnormal Opacity")
CHEST = Code("816094009", "SCT", "Chest")


class {class_name}(Pipeline[Volume]):
    """Finds what is denser than 300 HU."""

    name, version = "{name}", "0.1.0"
    match = Match(modality="CT")

    def run(self, volume: Volume, context: Context) -> Findings:
        mask = volume.array > 300
        if not mask.any():
            return Findings("Nothing above 300 HU was found.", sought=(DENSE,))
        return Findings("Dense matter was found.", (Finding(DENSE, CHEST, Segment(mask)),))
'''

_TEST = """\
import numpy as np
from dicomnode.sdk import Context, SeriesInfo, Volume
from {module}.pipeline import {class_name}


def test_dense_matter_is_found():
    array = np.full((4, 8, 8), -1000, np.float32)
    array[1:3, 2:5, 2:5] = 400
    volume = Volume(array, (1, 1, 1), (0, 0, 0), np.eye(3)[::-1].copy(), SeriesInfo("CT"))
    found = {class_name}().run(volume, Context.for_test())
    assert found.findings[0].segment.mask.sum() == 18
"""

_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "A pipeline for dicomnode. Research use only."
requires-python = ">=3.11"
dependencies = ["dicomnode", "numpy"]

[project.entry-points."dicomnode.pipelines"]
{name} = "{module}.pipeline:{class_name}"

[tool.setuptools]
packages = ["{module}"]
"""

_README = """\
# {name}

A pipeline for dicomnode. Research use only; not a medical device.

What it finds, how well, and its limits: write it here.

    pip install -e .
    pytest
    dicomnode run {name} FOLDER --out results
"""


def write_package(name: str, out: Path) -> Path:
    """Write the package of a pipeline into a new folder below ``out``, and give it.

    Raises
    ------
    ConfigurationError
        When the name cannot be one, or the folder is there already.
    """
    if not _NAME.fullmatch(name) or len(name) > 64:
        raise ConfigurationError(
            f"{name!r} is no name of a pipeline: small letters, digits and hyphens, as rib-fracture"
        )
    folder, module = out / name, name.replace("-", "_")
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already; nothing was written")
    words = {
        "name": name,
        "module": module,
        "title": name.replace("-", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    files = {
        folder / module / "__init__.py": "",
        folder / module / "pipeline.py": _PIPELINE,
        folder / "tests" / f"test_{module}.py": _TEST,
        folder / "pyproject.toml": _PROJECT,
        folder / "README.md": _README,
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words) if text else "", encoding="utf-8")
    return folder
