"""What no training loop may look like."""

import torch
from torch import nn

from self_supervised_loss import Learner, MetricsLogger


class PPOLearner(Learner[torch.Tensor, dict[str, float]]): ...


policy = nn.Linear(2, 2)
learner = PPOLearner(module={"policy": policy}, config={"clip": 0.2})

PPOLearner()  # refused
PPOLearner(module=policy)  # refused
PPOLearner({"policy": policy})  # refused
PPOLearner(module={"policy": policy}, config=0.2)  # refused

learner.compute_losses({"policy": {}}, {"policy": {}})  # refused
learner.compute_losses(fwd_out={"policy": {}})  # refused

metrics = MetricsLogger()
metrics.log_value(1, 0.5)  # refused
metrics.log_value("loss", 0.5, reduce="median")  # refused
