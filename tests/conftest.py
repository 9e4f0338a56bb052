"""One thread for each process, and one process for all tests that start Ray.

The latter is for `pytest -n 2 --dist loadgroup`, of pytest-xdist.
"""

import os
from collections.abc import Iterable

import pytest

# Ray's workers have one thread as well. With more, the processes would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Function]) -> None:
    for item in items:
        if "cluster" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("ray"))
