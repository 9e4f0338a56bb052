"""Tests with Ray RLlib. Those that start Ray are in the folder `cluster`."""
