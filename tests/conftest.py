"""Settings of the process that runs the tests, and of those that it starts."""

import os

# With more threads, the processes of Ray would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
