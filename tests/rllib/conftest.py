"""Makes RLlib's connectors as fast under pytest as in a program."""

import inspect
import sys
from types import SimpleNamespace

from ray.rllib.connectors import connector_v2


def last_frames():
    """Returns the frame that calls this function, and the one that called it."""
    caller = sys._getframe(1)
    return [SimpleNamespace(frame=caller), SimpleNamespace(frame=caller.f_back)]


# A connector reads its arguments from the frame of its caller. `inspect.stack` also looks up the
# source of all frames, which under pytest takes ten times as long as building a learner.
connector_v2.inspect = SimpleNamespace(stack=last_frames, getargvalues=inspect.getargvalues)
