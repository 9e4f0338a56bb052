"""Times `check_module` with a small torch module: its first and its second call in a process."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.interleave import Row

PROGRAM = """
import time
import torch
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

class Module(torch.nn.Linear, SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return fwd_out["prediction"].square().mean()

module, obs = Module(4, 4), torch.randn(8, 4)
for _ in range(2):
    fwd_out = {"prediction": module(obs)}
    start = time.perf_counter()
    check_module(module, batch={"obs": obs}, fwd_out=fwd_out)
    print(time.perf_counter() - start)
"""


def measure() -> Iterator[Row]:
    runs = [subprocess.check_output([sys.executable, "-c", PROGRAM]).split() for _ in range(5)]
    first, second = (statistics.median(map(float, times)) for times in zip(*runs, strict=True))
    yield Row("check_module, first call in a process", first, "second call", second, "ms")
