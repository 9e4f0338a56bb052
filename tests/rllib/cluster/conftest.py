import gc
import os
import sys
import threading
from functools import partialmethod

import pytest
import ray
from ray.train.torch.config import TorchConfig


@pytest.fixture(scope="package", autouse=True)
def cluster():
    """Starts Ray once for all tests of this folder."""

    def end_process_if_a_thread_fails():
        # IMPALA would wait forever for the thread that trains.
        print_error = threading.excepthook
        threading.excepthook = lambda error: (print_error(error), os._exit(1))

    # A learner waits for the gradients of another that has failed, by default for 30 minutes.
    TorchConfig.__init__ = partialmethod(TorchConfig.__init__, timeout_s=60)
    runtime_env = {
        "env_vars": {
            # Ray's workers are separate processes. They find `modules` where this process does.
            "PYTHONPATH": os.pathsep.join(sys.path),
            # In a learner that ends, the iterators of Ray Data would start another cluster.
            "RAY_ENABLE_AUTO_CONNECT": "0",
        },
        "worker_process_setup_hook": end_process_if_a_thread_fails,
    }
    # By default, Ray's workers give way to other processes, such as a second one of pytest.
    priority = {"worker_niceness": 0}
    ray.init(num_cpus=4, include_dashboard=False, runtime_env=runtime_env, _system_config=priority)
    yield
    gc.collect()  # closes the iterators of Ray Data, which ask Ray
    ray.shutdown()
