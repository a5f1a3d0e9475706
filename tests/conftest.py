"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from tests import dcmtk
from tests.postgres import (  # noqa: F401  fixtures
    clock,
    cluster,
    database_url,
    open_worklist,
    upgraded_template,
    worklist,
    worklist_url,
)
from tests.scripts import load_script

REPOSITORY = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has one core: threads of torch and of the BLAS would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """Undo what a test set up for the log: it writes to the test's own standard error."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real images; a test that wants one skips where there is none."""
    return _folder("DICOMNODE_TEST_DATA", "data")


@pytest.fixture(scope="session")
def tools_folder() -> Path:
    """Folder of the independent checkers of results."""
    return _folder("DICOMNODE_TEST_TOOLS", "tools")


@pytest.fixture(scope="session")
def checker(tools_folder: Path) -> ModuleType:
    """The independent checker of results, with the programs that it asks."""
    for name in ("dciodvfy", "dsrdump"):
        dcmtk.program(name)
    return load_script(tools_folder / "check_results.py")


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable) or REPOSITORY.parent / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set {variable}")
    return folder
