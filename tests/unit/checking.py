"""One-line modules, and the messages of `check_module` without the lines of code that they name."""

import re
import warnings

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

NO_DATA = {"batch": {}, "fwd_out": {}}


def module_with(loss_method, **members):
    members["compute_self_supervised_loss"] = loss_method
    return type("Module", (SelfSupervisedLossAPI,), members)()


def returning(loss):
    return module_with(lambda self, **kwargs: loss)


def changing(name, change):
    """Makes a module whose loss method changes `batch` or `fwd_out`."""
    return module_with(lambda self, **arguments: (change(arguments[name]), 1.0)[1])


def check(module, **arguments):
    return check_module(module, **NO_DATA | arguments)


def violations_of(module, **arguments):
    """Returns the messages of the error, if there is one, each with its advice behind it."""
    try:
        check(module, **arguments)
    except AssertionError as error:
        _, *messages = str(error).split("\n- ")
        return [without_location(message) for message in messages]
    return []


def hints_of(module, **arguments):
    """Returns the messages of the warnings that point to the call of `check_module`."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        check(module, **arguments)
    messages = [str(warning.message) for warning in warned if warning.filename == __file__]
    return [without_location(message) for message in messages]


def without_location(message):
    return re.sub(r"\n  at \S+:\d+", "", message)
