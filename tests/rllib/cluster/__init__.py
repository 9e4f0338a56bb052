"""Tests of RLlib that start Ray. They share a cluster, which `conftest.py` stops at the end."""
