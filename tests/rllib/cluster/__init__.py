"""Tests of RLlib that start Ray. They share one cluster, which `conftest.py` stops after the last."""
