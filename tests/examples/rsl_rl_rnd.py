"""Random Network Distillation in rsl_rl's PPO, with our module instead of rsl_rl's.

The task is a room of 10 by 10 cells. An agent moves one cell at a time, along the axis for which
its action is larger. The only reward is in the opposite corner, 18 steps away, and an episode ends
after 20 steps. Random walks reach it in 5 of a million episodes, so PPO alone has nothing to learn
from. Random Network Distillation (Burda et al., 2018, https://arxiv.org/abs/1810.12894) also
rewards the agent for reaching states that are new to a network.

    python tests/examples/rsl_rl_rnd.py

This example needs the extra rsl-rl: pip install -e '.[rsl-rl]'

Where to look: `RNDExtension` connects rsl_rl to the module (`tests/modules/rnd.py`). rsl_rl's PPO
takes intrinsic rewards and a loss from its attribute `rnd`, so one assignment replaces rsl_rl's own
`RandomNetworkDistillation`. PPO then trains and saves the extension. Runs without RND leave out the
assignment; everything else is the same.

The module rewards the observation that a step led to, and is trained on the observations that steps
started from, since rsl_rl stores those. Training on several GPUs would also need the attributes
`predictor` and `target`. A recurrent policy would need a mask, but PPO passes trajectories that are
padded with zeros, without a mask.
"""

import sys
from collections import deque
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

try:
    import torch
    from rsl_rl.env import VecEnv
    from rsl_rl.modules import EmpiricalDiscountedVariationNormalization
    from rsl_rl.runners import OnPolicyRunner
    from tensordict import TensorDict
    from torch import nn

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import History, Progress, make_parser, report_success
    from modules.rnd import RND
except ModuleNotFoundError as error:
    remedy = "This example needs the extra rsl-rl: pip install -e '.[rsl-rl]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

SIZE = 10
NUM_ENVS = 64
STEPS_PER_ENV = 16  # of each rollout
GAMMA = 0.95


class RNDExtension(Learner[torch.Tensor], nn.Module):
    """Replaces rsl_rl's `RandomNetworkDistillation`.

    Args:
        rnd: The module, on the same device as PPO.
        obs_group: The group of observations that the module is given.
        weight: The weight of the intrinsic rewards.
        learning_rate: The learning rate of the module. Epochs and batch size are PPO's.
    """

    def __init__(
        self, rnd: RND, obs_group: str, *, weight: float = 1.0, learning_rate: float = 1e-3
    ) -> None:
        super().__init__(module=nn.ModuleDict({"rnd": rnd}))
        self.obs_group, self.weight = obs_group, weight
        self.normalizer = EmpiricalDiscountedVariationNormalization(shape=[], gamma=GAMMA)
        self.optimizer = torch.optim.Adam(rnd.parameters(), lr=learning_rate)

    def get_intrinsic_reward(self, obs: TensorDict) -> torch.Tensor:
        fwd_out = self.module["rnd"]({"new_obs": obs[self.obs_group]})
        return self.weight * self.normalizer(fwd_out["intrinsic_rewards"].detach())

    def compute_loss(self, obs: TensorDict) -> torch.Tensor:
        batch = {"new_obs": obs[self.obs_group]}
        return self.compute_losses(
            fwd_out={"rnd": self.module["rnd"](batch)}, batch={"rnd": batch}
        )["rnd"]

    def update_normalization(self, obs: TensorDict) -> None:
        """Does nothing, since one-hot observations need no normalisation."""


class Room(VecEnv):
    """Vectorised rooms with one agent each, which starts in one corner and is rewarded in the
    opposite corner.

    An observation is the agent's cell as a one-hot vector. An action is two numbers. Walls stop the
    agent.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.num_actions = 2
        self.max_episode_length = 20
        self.device = "cpu"
        self.cfg: dict[str, Any] = {}
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)
        self.cells = torch.zeros(num_envs, 2, dtype=torch.long)
        self.successes: deque[bool] = deque(maxlen=100)  # of the last episodes

    def get_observations(self) -> TensorDict:
        row, column = self.cells.unbind(dim=-1)
        cell = nn.functional.one_hot(SIZE * row + column, SIZE**2).float()
        return TensorDict({"cell": cell}, batch_size=self.num_envs)

    def step(
        self, actions: torch.Tensor
    ) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        axis = actions.abs().argmax(dim=-1, keepdim=True)
        moves = torch.zeros_like(self.cells).scatter(
            -1, axis, actions.gather(-1, axis).sign().long()
        )
        self.cells = (self.cells + moves).clamp(0, SIZE - 1)
        self.episode_length_buf += 1

        at_goal = (self.cells == SIZE - 1).all(dim=-1)
        dones = at_goal | (self.episode_length_buf >= self.max_episode_length)
        self.successes.extend(at_goal[dones].tolist())
        self.cells[dones] = 0
        self.episode_length_buf[dones] = 0
        return self.get_observations(), at_goal.float(), dones, {}


def make_runner(*, with_rnd: bool) -> OnPolicyRunner:
    """Makes PPO and its environments, with rsl_rl's defaults for all other settings."""
    network = {"class_name": "MLPModel", "hidden_dims": [64], "activation": "tanh"}
    config = {
        "num_steps_per_env": STEPS_PER_ENV,
        "obs_groups": {"actor": ["cell"], "critic": ["cell"]},
        "algorithm": {"class_name": "PPO", "gamma": GAMMA, "entropy_coef": 0.0},
        "actor": {**network, "distribution_cfg": {"class_name": "GaussianDistribution"}},
        "critic": network,
    }
    with redirect_stdout(None):  # rsl_rl prints the networks
        runner = OnPolicyRunner(Room(NUM_ENVS), config)
    # A new critic should predict zero: random values would mislead the policy at first.
    for parameter in runner.alg.critic.mlp[-1].parameters():
        nn.init.zeros_(parameter)
    if with_rnd:
        runner.alg.rnd = RNDExtension(RND(obs_size=SIZE**2), "cell")
    return runner


def train(seed: int, num_steps: int, *, with_rnd: bool = True) -> History:
    """Trains PPO from scratch."""
    torch.manual_seed(seed)
    runner = make_runner(with_rnd=with_rnd)
    progress = Progress(num_steps, f"seed {seed} {'with' if with_rnd else 'without'} RND")
    steps = 0
    while steps < num_steps:
        runner.learn(1)
        steps += NUM_ENVS * STEPS_PER_ENV
        successes = runner.env.successes
        figures = {"success": sum(successes) / max(1, len(successes))}
        if with_rnd:
            metrics = runner.alg.rnd.metrics.reduce()["rnd"]
            figures["predictor_loss"] = float(metrics["predictor_loss"])
        progress.show(steps, **figures)
    return progress.history


def main() -> None:
    """Trains with and without RND and prints a table."""
    options = make_parser(__doc__, num_seeds=5, num_steps=50_000).parse_args()
    # The networks are too small to benefit from more threads.
    torch.set_num_threads(1)
    histories: dict[str, list[History]] = {"with RND": [], "without RND": []}
    for seed in options.seeds:
        histories["with RND"].append(train(seed, options.steps))
        histories["without RND"].append(train(seed, options.steps, with_rnd=False))
    report_success(options, histories, title="rsl_rl's PPO in a room of 10 by 10 cells")


if __name__ == "__main__":
    main()
