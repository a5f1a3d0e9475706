"""The pipelines that are installed on this machine, found by entry point and described as data.

Only the analysing child imports this: a pipeline's code may do anything, so none of it runs in a
process that holds rows.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dicomnode.errors import (
    ConfigurationError,
    ModelError,
    PipelineError,
    PipelineMissingError,
)
from dicomnode.rules.routing import match_to_data, select_to_data
from dicomnode.sdk import Images, Pipeline, Volume
from dicomnode.stages.analyse.messages import DescribedPipeline

GROUP = "dicomnode.pipelines"


def describe_all(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[DescribedPipeline]:
    """Describe every installed pipeline; ``settings`` are the TOML's, by name."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            yield _describe(load(entry.name), settings.get(entry.name, {}))
        except (PipelineError, ConfigurationError) as fault:
            yield DescribedPipeline(name=entry.name, broken=str(fault))


def load(name: str) -> type[Pipeline[Any]]:
    """Import the pipeline ``name``.

    Raises
    ------
    PipelineError
        When none of that name is installed, it cannot be imported, or it is not a pipeline.
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise PipelineMissingError(f"no pipeline {name!r} is installed")
    pipeline = _imported(next(iter(found)))
    if not (isinstance(pipeline, type) and issubclass(pipeline, Pipeline)):
        raise PipelineError(f"{name}: {next(iter(found)).value} is not a class made from Pipeline")
    if pipeline.name != name:
        raise PipelineError(f"{name}: the class calls itself {pipeline.name!r}")
    return pipeline


def _imported(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as fault:  # an author's module may raise anything while it loads
        raise PipelineMissingError(
            f"{entry.name}: {entry.value} cannot be imported ({type(fault).__name__}: {fault})"
        ) from fault


def settings_of(pipeline: type[Pipeline[Any]], given: Mapping[str, Any]) -> Any:
    """Build the pipeline's own settings object.

    Raises
    ------
    ConfigurationError
        With every unknown key and wrong type.
    """
    declared = pipeline.settings
    known = [field.name for field in dataclasses.fields(declared)]
    faults = [
        f"pipelines.{pipeline.name}.settings.{key} is not a key; known are {', '.join(known)}"
        for key in given
        if key not in known
    ]
    if faults:
        raise ConfigurationError(*faults)
    try:
        return TypeAdapter(declared).validate_python(dict(given))
    except ValidationError as found:
        raise ConfigurationError(
            *(
                f"pipelines.{pipeline.name}.settings.{'.'.join(map(str, fault['loc']))}: "
                f"{fault['msg']}"
                for fault in found.errors()
            )
        ) from None


def takes(pipeline: type[Pipeline[Any]]) -> str:
    """Say what the pipeline's ``run`` takes: volume, images, either or volumes."""
    for base in getattr(pipeline, "__orig_bases__", ()):
        if typing.get_origin(base) is Pipeline:
            (wanted,) = typing.get_args(base)
            if wanted is Volume:
                return "volume"
            if wanted is Images:
                return "images"
            if typing.get_origin(wanted) in (typing.Union, UnionType):
                return "either"
            if typing.get_origin(wanted) is tuple:
                return "volumes"
    raise PipelineError(f"{pipeline.name}: derive it from Pipeline[Volume], Pipeline[Images] …")


def require_bundles(pipeline: type[Pipeline[Any]]) -> None:
    """Raise ModelError for a pipeline whose bundles are not installed."""
    if pipeline.bundles:
        raise ModelError(f"{pipeline.name}: the bundle {pipeline.bundles[0]!r} is not installed")


def _describe(pipeline: type[Pipeline[Any]], given: Mapping[str, Any]) -> DescribedPipeline:
    require_bundles(pipeline)
    settings = settings_of(pipeline, given)
    return DescribedPipeline(
        name=pipeline.name,
        version=pipeline.version,
        match=match_to_data(pipeline.match),
        select=select_to_data(pipeline.select),
        takes=takes(pipeline),
        settings=dataclasses.asdict(settings),
    )
