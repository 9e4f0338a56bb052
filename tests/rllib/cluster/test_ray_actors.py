"""Data-parallel training with Ray actors instead of RLlib."""

import ray
import torch
from modules.rnd import RND
from ray.util import ActorPool

from self_supervised_loss import Learner


class GradientWorker(Learner[torch.Tensor]):
    """Computes the gradients of its share of the batch."""

    def __init__(self):
        super().__init__(module={"rnd": RND(4).double()})

    def gradients(self, weights, batch):
        rnd = self.module["rnd"]
        rnd.load_state_dict(weights)
        losses = self.compute_losses(fwd_out={"rnd": rnd(batch)}, batch={"rnd": batch})
        return torch.autograd.grad(losses["rnd"], [*rnd.predictor_net.parameters()])


def test_the_averaged_gradients_of_actors_equal_those_of_the_whole_batch():
    local = GradientWorker()
    weights = local.module["rnd"].state_dict()
    batch = {"new_obs": torch.randn(64, 4).double()}
    shares = [{"new_obs": share} for share in batch["new_obs"].chunk(4)]
    pool = ActorPool([ray.remote(GradientWorker).remote() for _ in range(2)])

    gradients = [*pool.map(lambda actor, share: actor.gradients.remote(weights, share), shares)]

    averaged = [sum(of_parameter) / len(shares) for of_parameter in zip(*gradients, strict=True)]
    torch.testing.assert_close(averaged, [*local.gradients(weights, batch)])
    assert not torch.equal(gradients[0][0], gradients[1][0])
