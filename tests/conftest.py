"""Spreads the tests over the processes of pytest-xdist: file by file, and all that start Ray in one of them."""

import pytest

USES_RAY = ("rllib", "test_ray_actors", "test_readme")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "ray" if any(name in item.nodeid for name in USES_RAY) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
