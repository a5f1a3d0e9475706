"""One node with a PACS for all tests of an engine: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.bench import Bench, running_bench
from tests.postgres import Cluster


@pytest.fixture(scope="session")
def postgresql_bench(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node with a PACS, on PostgreSQL."""
    name = cluster.create()
    try:
        with running_bench(tmp_path_factory.mktemp("node"), url=cluster.url(name)) as made:
            yield made
    finally:
        cluster.drop(name)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node with a PACS, on SQLite."""
    with running_bench(tmp_path_factory.mktemp("node")) as made:
        yield made
