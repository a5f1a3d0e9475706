"""The identities that make the same input give one result: key, line, inputs, form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dicomnode.rules.states import JobState, Mode

Input = tuple[str, str]
"""SOP Instance UID and digest of one instance that a job reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyParts:
    """What a job's key is made of, but for its run."""

    pipeline: str
    version: str
    settings: Mapping[str, object]
    weights: Mapping[str, str]
    inputs: tuple[Input, ...]

    def key(self, run: int = 0) -> str:
        """Give the key of this job's ``run``: 64 hex digits, whatever the order of its inputs."""
        return _digest(
            {
                "pipeline": self.pipeline,
                "version": self.version,
                "settings": dict(self.settings),
                "weights": dict(self.weights),
                "run": run,
                "inputs": _sorted(self.inputs),
            }
        )


def job_key(
    pipeline: str,
    version: str,
    settings: Mapping[str, object],
    weights: Mapping[str, str],
    run: int,
    inputs: Iterable[Input],
) -> str:
    """Give the key of a job: 64 hex digits, SHA-256 of its parts as canonical JSON."""
    parts = KeyParts(
        pipeline=pipeline,
        version=version,
        settings=settings,
        weights=weights,
        inputs=tuple(inputs),
    )
    return parts.key(run)


def inputs_digest(inputs: Iterable[Input]) -> str:
    """Give 64 hex digits for a set of inputs, to tell whether a line already analysed it."""
    return _digest(_sorted(inputs))


def line(
    study_instance_uid: str, pipeline: str, mode: Mode | str, series_instance_uid: str | None = None
) -> str:
    """Give the line a job stands in; a series has its own where the pipeline takes each by itself.

    A line has at most one job that is not final, and one current result.
    """
    parts = [study_instance_uid, pipeline, str(mode)]
    return "|".join(parts if series_instance_uid is None else [*parts, series_instance_uid])


@dataclass(frozen=True, slots=True, kw_only=True)
class FormParts:
    """What one peer gets of a job's results.

    ``predecessors`` are the SOP Instance UIDs of the reports that this one follows there;
    ``is_status`` says that it is the report of a run without a result, which is another object
    than the report of the result that the same job gives when it is tried again.
    """

    presents: tuple[str, ...]
    sr_class: str
    predecessors: tuple[str, ...] = ()
    is_status: bool = False


def form(parts: FormParts) -> str:
    """Give 64 hex digits for a form: peers that get the same share the same objects."""
    told: dict[str, object] = {
        "presents": sorted(set(parts.presents)),
        "sr_class": parts.sr_class,
        "predecessors": sorted(parts.predecessors),
    }
    if parts.is_status:
        # Only then: the forms of results stay what they were before this was told apart.
        told["is_status"] = True
    return _digest(told)


@dataclass(frozen=True, slots=True)
class Run:
    """The run and key that a planned job gets; ``known`` where such a job exists and stands."""

    number: int
    key: str
    known: bool


def next_run(parts: KeyParts, state_of: Callable[[str], JobState | None], first: int = 0) -> Run:
    """Give the first run from ``first`` on whose key is free, or whose job stands.

    A superseded job does not stand: where inputs went A, B, A, the third job is a run of its own.
    ``state_of`` gives the state of the job with a key, None where there is none.
    """
    number = first
    while (state := state_of(key := parts.key(number))) is JobState.SUPERSEDED:
        number += 1
    return Run(number, key, known=state is not None)


def _sorted(inputs: Iterable[Input]) -> list[list[str]]:
    return sorted([uid, digest] for uid, digest in inputs)


def _digest(data: object) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
