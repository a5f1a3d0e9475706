"""DICOM files of a folder, read without pixels and grouped as routing groups them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicomnode.dicom.headers import Header, read_header
from dicomnode.errors import ConfigurationError, UnreadableError


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """One study's files; ``series`` in the order in which routing numbers them, from 1."""

    study_instance_uid: str
    headers: tuple[Header, ...]
    series: tuple[tuple[Path, ...], ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds: studies, and how many files are not readable as DICOM."""

    studies: tuple[StudyFiles, ...]
    unreadable: int


def read_folder(place: Path) -> Folder:
    """Read every file at or below ``place``.

    Raises
    ------
    ConfigurationError
        When nothing there is DICOM.
    """
    paths = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    by_study: dict[str, dict[str, list[tuple[Header, Path]]]] = {}
    unreadable = 0
    for path in paths:
        try:
            header = read_header(path)
        except UnreadableError:
            unreadable += 1
            continue
        series = by_study.setdefault(header.study_instance_uid, {})
        series.setdefault(header.series_instance_uid, []).append((header, path))
    if not by_study:
        raise ConfigurationError(f"{place} holds no file that can be read as DICOM")
    studies = tuple(
        StudyFiles(
            study_instance_uid,
            tuple(header for members in series.values() for header, _ in members),
            tuple(tuple(path for _, path in members) for members in series.values()),
        )
        for study_instance_uid, series in by_study.items()
    )
    return Folder(studies, unreadable)
