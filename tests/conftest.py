"""Settings of the process that runs the tests, and of the processes that it starts."""

import os

from hypothesis import HealthCheck, settings

# With more threads, the processes of Ray would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

# No test fails because the machine is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
