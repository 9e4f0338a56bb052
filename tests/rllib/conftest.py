"""Makes RLlib as fast under pytest as in a program."""

import inspect
import os
from functools import partial

# RLlib imports JAX if it is installed, in each of its processes.
os.environ["RLLIB_TEST_NO_JAX_IMPORT"] = "1"

# RLlib's connectors look for their arguments in `inspect.stack()`. Without `context=0`, it reads
# the source of all frames, which under pytest takes most of the time of building a learner.
inspect.stack = partial(inspect.stack, context=0)
