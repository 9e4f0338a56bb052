"""What `check_module` says, as the tests compare it: without the lines of code that it names."""

import re
import warnings

import pytest

from self_supervised_loss.testing import check_module


def violations_of(module, **arguments):
    """Returns the messages of the one error, each with its advice behind it."""
    with pytest.raises(AssertionError) as raised:
        check_module(module, **arguments)
    _, *messages = str(raised.value).split("\n- ")
    return [without_location(message) for message in messages]


def hints_of(module, **arguments):
    """Returns the messages of the warnings that point to the call of `check_module`."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        check_module(module, **arguments)
    messages = [str(warning.message) for warning in warned if warning.filename == __file__]
    return [without_location(message) for message in messages]


def without_location(message):
    return re.sub(r"\n  at \S+:\d+", "", message)
