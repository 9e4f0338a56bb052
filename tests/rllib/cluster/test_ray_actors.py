"""Data-parallel training by plain Ray actors, without RLlib: each computes the gradients of its
share of the batch."""

import pytest
import ray
import torch
from modules.icm import ICM
from ray.util import ActorPool

from self_supervised_loss import Learner

OBS_SIZE, NUM_ACTIONS, BATCH_SIZE, NUM_ACTORS, NUM_SHARES = 4, 3, 64, 2, 4

# By JAX, where it is imported.
pytestmark = pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning")


class GradientWorker(Learner[torch.Tensor]):
    """Computes gradients in an actor."""

    def __init__(self) -> None:
        super().__init__(module={"icm": ICM(OBS_SIZE, NUM_ACTIONS).double()})

    def gradients(
        self, weights: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        icm = self.module["icm"]
        icm.load_state_dict(weights)
        loss = self.compute_losses(fwd_out={"icm": icm(batch)}, batch={"icm": batch})["icm"]
        return list(torch.autograd.grad(loss, [*icm.parameters()]))


@pytest.fixture
def pool(cluster: None) -> ActorPool:
    return ActorPool([ray.remote(GradientWorker).remote() for _ in range(NUM_ACTORS)])


def make_batch() -> dict[str, torch.Tensor]:
    return {
        "obs": torch.randn(BATCH_SIZE, OBS_SIZE).double(),
        "new_obs": torch.randn(BATCH_SIZE, OBS_SIZE).double(),
        "actions": torch.randint(NUM_ACTIONS, (BATCH_SIZE,)),
    }


def test_the_averaged_gradients_of_actors_are_those_of_the_whole_batch(pool: ActorPool) -> None:
    torch.manual_seed(0)
    local, batch = GradientWorker(), make_batch()
    weights = local.module["icm"].state_dict()
    shares = [
        {name: rows.chunk(NUM_SHARES)[i] for name, rows in batch.items()} for i in range(NUM_SHARES)
    ]

    gradients = [*pool.map(lambda actor, share: actor.gradients.remote(weights, share), shares)]

    averaged = [
        torch.stack(of_one_parameter).mean(dim=0)
        for of_one_parameter in zip(*gradients, strict=True)
    ]
    torch.testing.assert_close(averaged, local.gradients(weights, batch))
    assert not torch.equal(gradients[0][0], gradients[1][0])
