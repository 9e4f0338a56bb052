"""`self_supervised_loss.rllib` without RLlib, or with an old version of Ray."""

import importlib
import sys
from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("ray", "reason"),
    [
        (None, "import of ray halted; None in sys.modules"),
        (SimpleNamespace(__version__="2.52.1"), "this is Ray 2.52.1"),
    ],
)
def test_importing_the_mix_ins_without_a_recent_ray_names_the_remedy(ray, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delitem(sys.modules, "self_supervised_loss.rllib", raising=False)

    with pytest.raises(ImportError) as raised:
        importlib.import_module("self_supervised_loss.rllib")

    assert str(raised.value) == (
        "self_supervised_loss.rllib requires RLlib from Ray 2.53 or later, "
        f"but {reason}. Write: pip install 'ray[rllib]>=2.53'"
    )
