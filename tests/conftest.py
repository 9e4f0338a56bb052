"""Spreads the tests over the processes of pytest-xdist: file by file, and all that start Ray in one of them."""

from typing import Any

from xdist.scheduler import LoadScopeScheduling


class ByFileAndRayApart(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if any(name in file for name in ("rllib", "test_ray_actors", "test_readme")) else file


def pytest_xdist_make_scheduler(config: Any, log: Any) -> ByFileAndRayApart:
    return ByFileAndRayApart(config, log)
