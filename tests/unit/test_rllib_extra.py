"""`self_supervised_loss.rllib` without Ray names the extra."""

import importlib
import sys

import pytest


def test_an_import_without_ray_says_what_is_wrong_and_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.rllib.connectors.connector_v2", None)
    monkeypatch.delitem(sys.modules, "self_supervised_loss.rllib", raising=False)

    with pytest.raises(ImportError) as raised:
        importlib.import_module("self_supervised_loss.rllib")

    what_is_wrong, remedy = str(raised.value).split(". Write: ")
    wrong = "import of ray.rllib.connectors.connector_v2 halted; None in sys.modules"
    assert what_is_wrong == f"self_supervised_loss.rllib needs Ray RLlib, but {wrong}"
    assert remedy == "pip install 'self-supervised-loss[rllib]'"
