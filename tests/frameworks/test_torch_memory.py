"""What a long run of losses leaves in memory. It runs in a process of its own, whose peak no other
test has raised."""

import os
import resource
import subprocess
import sys
from typing import Any

import torch
from torch import nn

from self_supervised_loss import Learner


class SelfPredictionLearner(Learner[torch.Tensor]):
    def compute_loss_for_module(
        self, *, module_id: str, batch: dict[str, Any], fwd_out: dict[str, Any], **kwargs: Any
    ) -> torch.Tensor:
        loss = (fwd_out["prediction"] - batch["obs"]).pow(2).mean()
        self.metrics.log_value((module_id, "loss"), loss)
        self.metrics.log_dict({"last_losses": loss}, key=module_id, reduce="max", window=10)
        return loss


def train_a_large_net(num_losses: int) -> None:
    net = nn.Linear(316, 316)  # 100,000 parameters
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    learner = SelfPredictionLearner(module={"net": net})
    batch = {"obs": torch.randn(32, 316)}
    for _ in range(num_losses):
        losses = learner.compute_losses(
            fwd_out={"net": {"prediction": net(batch["obs"])}}, batch={"net": batch}
        )
        optimizer.zero_grad()
        losses["net"].backward()
        optimizer.step()


def test_2000_losses_of_a_net_with_100_000_parameters_leave_nothing_in_memory() -> None:
    program = [sys.executable, __file__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    output = subprocess.run(
        program, env=environment, check=True, capture_output=True, text=True
    ).stdout

    peak_after_100, peak_after_2000 = map(int, output.split())
    assert peak_after_2000 < 1.03 * peak_after_100


if __name__ == "__main__":
    for count in (100, 2000):
        train_a_large_net(count)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
