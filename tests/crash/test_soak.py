"""A short soak; ``make soak`` is the long one."""

from __future__ import annotations

import pytest

from tests.crash.soak import soak

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_three_studies_survive_random_kills() -> None:
    assert soak(3, seed=20, minutes=3.0) == []
