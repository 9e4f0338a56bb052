"""Random Network Distillation in rsl_rl's PPO, with our module in place of rsl_rl's own.

The task is a room of 10 by 10 cells. An agent moves by one cell at a time, along that of two axes
for which its action is larger. The only reward lies in the opposite corner, 18 steps away, and an
episode ends after 20. Random walks get there in 5 of a million episodes, so PPO alone has nothing
to learn from. With Random Network Distillation (Burda et al., 2018,
https://arxiv.org/abs/1810.12894) the agent is also rewarded for reaching what a network cannot
predict yet.

    python tests/examples/rsl_rl_rnd.py
    python tests/examples/rsl_rl_rnd.py --seeds 5 6 --steps 80000 --plot curves.pdf

This example needs the extra rsl_rl: pip install -e '.[rsl_rl]'

Where to look: `RNDExtension` is all that stands between rsl_rl and the module
(`tests/modules/rnd.py`), which knows nothing of rsl_rl. The PPO of rsl_rl asks its attribute `rnd`
for intrinsic rewards and for a loss, so that one assignment replaces the class that it has for
that, `RandomNetworkDistillation`. PPO goes on to train and save what is there. Without the
assignment all else is the same.

The module rewards what a step led to, and is trained on what steps started from, since this is what
rsl_rl stores. Training on several GPUs would need the attributes `predictor` and `target` too. A
recurrent policy would need a mask, which PPO does not hand on: it gives the module trajectories
that are padded with zeros.

The success rate is that of the last 100 episodes of training, in which actions are sampled. The
same seed gives the same numbers on the same machine, whichever other seeds run.
"""

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

try:
    import torch
    from rsl_rl.env import VecEnv
    from rsl_rl.modules import EmpiricalDiscountedVariationNormalization
    from rsl_rl.runners import OnPolicyRunner
    from tensordict import TensorDict
    from torch import nn

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import parse_options, print_table, progress_bar, save_plot
    from modules.rnd import RND
except ModuleNotFoundError as error:
    remedy = "This example needs the extra rsl_rl: pip install -e '.[rsl_rl]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

ARMS = {"with RND": True, "without RND": False}
SIZE = 10
NUM_ENVS = 64
STEPS_PER_ENV = 16  # of each rollout
GAMMA = 0.95


class RNDExtension(Learner[torch.Tensor], nn.Module):
    """What rsl_rl's PPO takes for its `RandomNetworkDistillation`.

    Args:
        rnd: The module, on the device of PPO.
        obs_group: Which group of the observations the module is given.
        weight: The weight of the intrinsic rewards beside those of the environment.
        learning_rate: That of the module. The number of epochs and the size of a batch are PPO's.
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
        """Does nothing. Observations are one-hot, and need no normalisation."""


class Room(VecEnv):
    """A room with a reward in one corner, and many agents, each alone, that start in the opposite
    one.

    An observation is the cell, as a one-hot vector. An action is two numbers. A step against a wall
    leads nowhere.
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
    """Makes PPO and its environments, with the settings of rsl_rl where nothing else is said."""
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
    # Else the random values of a new critic, and not rewards, are what the policy learns from at
    # first.
    for parameter in runner.alg.critic.mlp[-1].parameters():
        nn.init.zeros_(parameter)
    if with_rnd:
        runner.alg.rnd = RNDExtension(RND(obs_size=SIZE**2), "cell")
    return runner


class Result(NamedTuple):
    """What is known after a training. The lists have an entry for each rollout."""

    runner: OnPolicyRunner
    steps: list[int]
    success_rates: list[float]
    predictor_losses: list[float]


def train(seed: int, num_steps: int, *, with_rnd: bool) -> Result:
    """Trains PPO from scratch. The number of steps is rounded up to whole rollouts."""
    torch.manual_seed(seed)
    runner = make_runner(with_rnd=with_rnd)
    result = Result(runner, [], [], [])
    rollout_size = NUM_ENVS * STEPS_PER_ENV
    num_steps = -(-num_steps // rollout_size) * rollout_size
    with progress_bar(num_steps, f"seed {seed} {'with' if with_rnd else 'without'} RND") as bar:
        while bar.n < num_steps:
            runner.learn(1)
            successes = runner.env.successes
            result.steps.append(bar.n + rollout_size)
            result.success_rates.append(sum(successes) / max(1, len(successes)))
            shown = f"success {result.success_rates[-1]:.0%}"
            if with_rnd:
                result.predictor_losses.append(
                    runner.alg.rnd.metrics.reduce()["rnd"]["predictor_loss"].item()
                )
                shown += f", predictor loss {result.predictor_losses[-1]:.2g}"
            bar.set_postfix_str(shown, refresh=False)
            bar.update(rollout_size)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Trains with and without RND, and prints a table."""
    options = parse_options(__doc__, num_seeds=5, num_steps=50_000, argv=argv)

    # The networks are so small that more threads only wait for each other.
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    curves: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        results = [train(seed, options.steps, with_rnd=with_rnd) for with_rnd in ARMS.values()]
        for arm, result in zip(ARMS, results, strict=True):
            curves[arm].append(result.success_rates)
        success = (f"{result.success_rates[-1]:.0%}" for result in results)
        rows.append([f"seed {seed}", *success, f"{results[0].predictor_losses[-1]:.2g}"])
    solved = (
        f"{sum(curve[-1] > 0.9 for curve in curves[arm])} of {len(options.seeds)}" for arm in ARMS
    )
    print_table(["success rate", *ARMS, "predictor loss"], [*rows, ["above 90%", *solved]])
    if options.plot:
        save_plot(
            options.plot,
            result.steps,
            curves,
            title="rsl_rl's PPO in a room of 10 by 10 cells",
            xlabel="steps",
            ylabel="success rate of the last 100 episodes",
            ylim=(-0.02, 1.02),
        )


if __name__ == "__main__":
    main()
