"""Data-parallel training with Ray actors instead of RLlib."""

import ray
import torch
from modules.icm import ICM
from ray.util import ActorPool

from self_supervised_loss import Learner


class GradientWorker(Learner[torch.Tensor]):
    """Computes the gradients of its share of the batch."""

    def __init__(self):
        super().__init__(module={"icm": ICM(4, 3).double()})

    def gradients(self, weights, batch):
        icm = self.module["icm"]
        icm.load_state_dict(weights)
        losses = self.compute_losses(fwd_out={"icm": icm(batch)}, batch={"icm": batch})
        return torch.autograd.grad(losses["icm"], [*icm.parameters()])


def test_the_averaged_gradients_of_actors_equal_those_of_the_whole_batch():
    torch.manual_seed(0)
    local = GradientWorker()
    weights = local.module["icm"].state_dict()
    batch = {
        "obs": torch.randn(64, 4).double(),
        "new_obs": torch.randn(64, 4).double(),
        "actions": torch.randint(3, (64,)),
    }
    shares = [{name: column.chunk(4)[i] for name, column in batch.items()} for i in range(4)]
    pool = ActorPool([ray.remote(GradientWorker).remote() for _ in range(2)])

    gradients = [*pool.map(lambda actor, share: actor.gradients.remote(weights, share), shares)]

    averaged = [sum(of_parameter) / len(shares) for of_parameter in zip(*gradients, strict=True)]
    torch.testing.assert_close(averaged, [*local.gradients(weights, batch)])
    assert not torch.equal(gradients[0][0], gradients[1][0])
