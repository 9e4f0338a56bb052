"""Tests with Ray RLlib. They share one cluster, which `conftest.py` stops after the last of them."""
