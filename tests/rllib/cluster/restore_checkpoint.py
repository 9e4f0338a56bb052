"""Restores an algorithm in a process that has never seen the class of its module."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from rllib.cluster.training import check_restored, ray_cluster

if __name__ == "__main__":
    assert "modules.icm_rl_module" not in sys.modules
    with ray_cluster():
        check_restored(Path(sys.argv[1]))
