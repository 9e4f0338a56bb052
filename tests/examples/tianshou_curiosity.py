"""PPO with curiosity on Tianshou 2: its PPO with our curiosity module, in place of Tianshou's own
ICM.

The task is Gymnasium's FrozenLake, 8x8 and not slippery. The only reward lies at the goal, 14 steps
away, and an episode ends after 16, so that plain PPO has nothing to learn from. With the Intrinsic
Curiosity Module of Pathak et al. (2017), https://arxiv.org/abs/1705.05363, the agent is also
rewarded for what it cannot predict yet.

    python tests/examples/tianshou_curiosity.py
    python tests/examples/tianshou_curiosity.py --seeds 0 1 --steps 30000 --plot curves.pdf

This example needs the extra tianshou: pip install -e '.[tianshou]'

Where to look: `PPOWithCuriosity` is all that stands between Tianshou and the module
(`tests/modules/icm.py`), which knows nothing of Tianshou. It has about 30 lines.
Tianshou's own wrapper of its ICM, `tianshou/algorithm/modelbased/icm.py` in version 2.0.1, has
about 260 in all, and about 150 for on-policy algorithms such as PPO.

The success rate is that of 100 episodes after the training, in which actions are sampled as before.
The same seed gives the same numbers on the same machine, whichever other seeds run.
"""

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import gymnasium as gym
    import numpy as np
    import torch
    from tianshou.algorithm import PPO
    from tianshou.algorithm.algorithm_base import Policy
    from tianshou.algorithm.modelfree.a2c import A2CTrainingStats
    from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
    from tianshou.algorithm.optim import (
        AdamOptimizerFactory,
        LRSchedulerFactoryLinear,
        OptimizerFactory,
    )
    from tianshou.data import Collector, ReplayBuffer, VectorReplayBuffer, to_numpy, to_torch
    from tianshou.data.types import LogpOldProtocol, RolloutBatchProtocol
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils import LazyLogger
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
    from tianshou.utils.torch_utils import torch_device
    from torch import nn

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import parse_options, print_table, progress_bar, save_plot
    from modules.icm import ICM
except ModuleNotFoundError as error:
    remedy = "This example needs the extra tianshou: pip install -e '.[tianshou]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

ARMS = {"with curiosity": True, "without curiosity": False}
NUM_ENVS = 32
ROLLOUT_STEPS = 1024


class PPOWithCuriosity(PPO):
    """PPO that also rewards what a module cannot predict yet, and that trains this module on the
    module's own loss.

    For another on-policy algorithm, replace the base class. What the module logs stands in the
    training stats, and so in the logs, under the names that Tianshou's own ICM has there:
    `icm_forward_loss` and `icm_inverse_loss`.
    """

    def __init__(
        self, *, icm: nn.Module, curiosity_weight: float, optim: OptimizerFactory, **ppo_params: Any
    ) -> None:
        super().__init__(optim=optim, **ppo_params)
        self.icm = icm
        self.icm_optim = self._create_optimizer(icm, optim)
        self.curiosity_weight = curiosity_weight
        self.learner = Learner[torch.Tensor](module={"icm": icm})

    def _preprocess_batch(
        self, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray
    ) -> LogpOldProtocol:
        with torch.no_grad():
            intrinsic_rewards = self.icm(self._transitions(batch))["intrinsic_rewards"]
        # The batch is a copy. The buffer keeps the rewards of the environment.
        batch.rew = batch.rew + self.curiosity_weight * to_numpy(intrinsic_rewards)
        return super()._preprocess_batch(batch, buffer, indices)

    def _update_with_batch(
        self, batch: LogpOldProtocol, batch_size: int | None, repeat: int
    ) -> A2CTrainingStats:
        stats = super()._update_with_batch(batch, batch_size, repeat)
        for _ in range(repeat):
            for minibatch in batch.split(batch_size or -1, merge_last=True):
                transitions = self._transitions(minibatch)
                losses = self.learner.compute_losses(
                    fwd_out={"icm": self.icm(transitions)}, batch={"icm": transitions}
                )
                self.icm_optim.step(losses["icm"])
        for name, value in self.learner.metrics.reduce()["icm"].items():
            setattr(stats, f"icm_{name}", float(value))
        return stats

    def _transitions(self, batch: RolloutBatchProtocol) -> dict[str, torch.Tensor]:
        columns = {"obs": batch.obs, "new_obs": batch.obs_next, "actions": batch.act}
        device = torch_device(self.icm)
        return {name: to_torch(column, torch.float32, device) for name, column in columns.items()}


class Progress(LazyLogger):
    """Keeps what Tianshou logs after each rollout, and shows it in a progress bar."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self.bar = bar
        self.successes: deque[bool] = deque(maxlen=100)
        self.losses: dict[str, float] = {}
        self.history: list[dict[str, float]] = []

    def log_update_data(self, log_data: dict[str, Any], step: int) -> None:
        # Tianshou calls this before log_training_data.
        self.losses = {
            name: loss
            for name, loss in log_data["smoothed_loss"].items()
            if name.startswith("icm_")
        }

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        self.successes.extend(log_data["returns"] > 0)
        success_rate = sum(self.successes) / len(self.successes)
        self.history.append({"steps": step, "success_rate": success_rate, **self.losses})
        shown = f"success {success_rate:.0%}"
        if self.losses:
            shown += f", inverse loss {self.losses['icm_inverse_loss']:.2g}"
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(step - self.bar.n)


def train(seed: int, num_steps: int, *, curiosity: bool) -> tuple[PPO, list[dict[str, float]]]:
    """Trains PPO from scratch, and returns it with what was logged after each rollout."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # Tianshou shuffles minibatches with it.
    algorithm = make_algorithm(num_steps, curiosity=curiosity)
    envs = DummyVectorEnv([frozen_lake] * NUM_ENVS)
    envs.seed(seed)
    total = -(-num_steps // ROLLOUT_STEPS) * ROLLOUT_STEPS
    with progress_bar(total, f"seed {seed} {'with' if curiosity else 'without'} curiosity") as bar:
        progress = Progress(bar)
        algorithm.run_training(
            OnPolicyTrainerParams(
                training_collector=Collector(
                    algorithm.policy, envs, VectorReplayBuffer(ROLLOUT_STEPS, NUM_ENVS)
                ),
                max_epochs=1,
                epoch_num_steps=num_steps,
                collection_step_num_env_steps=ROLLOUT_STEPS,
                batch_size=256,
                update_step_num_repetitions=4,
                logger=progress,
                show_progress=False,
            )
        )
    envs.close()
    return algorithm, progress.history


def success_rate(policy: Policy) -> float:
    """Returns how many of 100 episodes the policy ends at the goal, as a fraction."""
    envs = DummyVectorEnv([frozen_lake] * NUM_ENVS)
    stats = Collector(policy, envs).collect(n_episode=100, reset_before_collect=True)
    envs.close()
    return float(stats.returns.mean())


def make_algorithm(num_steps: int, *, curiosity: bool) -> PPO:
    """Makes the networks, and PPO with or without curiosity, for so many steps of training."""
    env = frozen_lake()
    obs_size, num_actions = (
        gym.spaces.flatdim(env.observation_space),
        gym.spaces.flatdim(env.action_space),
    )
    actor_net, critic_net = (
        Net(state_shape=obs_size, hidden_sizes=[64], activation=nn.Tanh)
        for _ in ("actor", "critic")
    )
    actor = DiscreteActor(preprocess_net=actor_net, action_shape=num_actions, softmax_output=False)
    critic = DiscreteCritic(preprocess_net=critic_net)
    # Else the random values of a new critic, and not rewards, are what the policy learns from at
    # first.
    for parameter in critic.last.parameters():
        nn.init.zeros_(parameter)
    lr_schedule = LRSchedulerFactoryLinear(1, num_steps, ROLLOUT_STEPS)
    ppo_params: dict[str, Any] = dict(
        policy=DiscreteActorPolicy(actor=actor, action_space=env.action_space),
        critic=critic,
        optim=AdamOptimizerFactory(lr=4e-3, eps=1e-5).with_lr_scheduler_factory(lr_schedule),
        gamma=0.95,
        gae_lambda=0.95,
        vf_coef=0.25,
        ent_coef=0.005,
    )
    if curiosity:
        return PPOWithCuriosity(icm=ICM(obs_size, num_actions), curiosity_weight=0.1, **ppo_params)
    return PPO(**ppo_params)


def frozen_lake() -> gym.Env[Any, Any]:
    """Makes an environment whose observations are one-hot vectors."""
    env = gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False, max_episode_steps=16)
    return gym.wrappers.FlattenObservation(env)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains with and without curiosity, and prints a table."""
    options = parse_options(__doc__, num_seeds=5, num_steps=51_200, argv=argv)

    # The networks are so small that more threads only wait for each other.
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    curves: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    losses: list[list[str]] = []
    for seed in options.seeds:
        for arm, curiosity in ARMS.items():
            algorithm, history = train(seed, options.steps, curiosity=curiosity)
            rates[arm].append(success_rate(algorithm.policy))
            curves[arm].append([metrics["success_rate"] for metrics in history])
            if curiosity:
                losses.append(
                    [
                        f"{history[-1][name]:.2g}"
                        for name in ("icm_forward_loss", "icm_inverse_loss")
                    ]
                )

    rows = [
        [f"seed {seed}", *(f"{rates[arm][nth]:.0%}" for arm in ARMS), *losses[nth]]
        for nth, seed in enumerate(options.seeds)
    ]
    solved = (f"{sum(rate > 0.9 for rate in rates[arm])} of {len(options.seeds)}" for arm in ARMS)
    print_table(
        ["success rate", *ARMS, "forward loss", "inverse loss"], [*rows, ["above 90%", *solved]]
    )
    if options.plot:
        save_plot(
            options.plot,
            [metrics["steps"] for metrics in history],
            curves,
            title="Tianshou's PPO on FrozenLake 8x8",
            xlabel="steps",
            ylabel="success rate of the last 100 episodes",
            ylim=(-0.02, 1.02),
        )


if __name__ == "__main__":
    main()
