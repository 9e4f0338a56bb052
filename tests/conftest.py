"""Spreads the tests over the processes of pytest-xdist: file by file, and all that start Ray in one
of them."""

import os
from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Ray's workers have one thread as well. With more, the processes would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

STARTS_RAY = ("rllib_curiosity.py", "ray_actors.py", "readme.py")


class ByFileAndRayApart(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if "rllib/cluster/" in file or file.endswith(STARTS_RAY) else file


def pytest_xdist_make_scheduler(config: Any, log: Any) -> ByFileAndRayApart:
    return ByFileAndRayApart(config, log)
