"""PPO with curiosity in Tianshou 2, with our curiosity module instead of Tianshou's ICM.

PPO alone learns nothing on this task, which is the same as in `ppo_curiosity.py`. The Intrinsic
Curiosity Module of Pathak et al. (2017), https://arxiv.org/abs/1705.05363, also rewards the agent
for transitions that the module cannot predict yet.

    python tests/examples/tianshou_curiosity.py

This example needs the extra tianshou: pip install -e '.[tianshou]'

Where to look: `PPOWithCuriosity` connects Tianshou to the module (`tests/modules/icm.py`) in about
30 lines. Tianshou's wrapper for its ICM, `tianshou/algorithm/modelbased/icm.py` in version
2.0.1, has about 260 lines, of which about 150 are for on-policy algorithms such as PPO.
"""

import sys
from collections import deque
from pathlib import Path
from typing import Any

try:
    import gymnasium as gym
    import numpy as np
    import torch
    from tianshou.algorithm import PPO
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
    from examples.shared import History, Progress, make_parser, report_success
    from modules.icm import ICM
except ModuleNotFoundError as error:
    remedy = "This example needs the extra tianshou: pip install -e '.[tianshou]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

NUM_ENVS = 32
ROLLOUT_STEPS = 1024


class PPOWithCuriosity(PPO):
    """PPO that adds the intrinsic rewards of a curiosity module and trains the module on its own
    loss.

    For another on-policy algorithm, replace the base class. The module's metrics are part of the
    training stats, and so of the logs, under the names that Tianshou's ICM uses:
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
        # The batch is a copy: the rewards in the buffer do not change.
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
        device = torch_device(self.icm)
        obs, new_obs = (to_torch(o, torch.float32, device) for o in (batch.obs, batch.obs_next))
        actions = to_torch(batch.act, torch.long, device)  # Tianshou's PPO turns them into floats
        return {"obs": obs, "new_obs": new_obs, "actions": actions}


class ProgressLogger(LazyLogger):
    """Shows Tianshou's metrics of each rollout in a progress bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.successes: deque[bool] = deque(maxlen=100)
        self.figures: dict[str, float] = {}

    def log_update_data(self, log_data: dict[str, Any], step: int) -> None:
        # Tianshou calls this before log_training_data.
        losses = log_data["smoothed_loss"]
        if "icm_inverse_loss" in losses:
            self.figures["inverse_loss"] = losses["icm_inverse_loss"]

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        self.successes.extend(log_data["returns"] > 0)
        success_rate = sum(self.successes) / len(self.successes)
        self.progress.show(step, success=success_rate, **self.figures)


def train(seed: int, num_steps: int, *, curiosity: bool = True) -> History:
    """Trains PPO from scratch."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # for the order of minibatches
    algorithm = make_algorithm(num_steps, curiosity=curiosity)
    envs = DummyVectorEnv([frozen_lake] * NUM_ENVS)
    envs.seed(seed)
    progress = Progress(num_steps, f"seed {seed} {'with' if curiosity else 'without'} curiosity")
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
            logger=ProgressLogger(progress),
            show_progress=False,
        )
    )
    envs.close()
    return progress.history


def make_algorithm(num_steps: int, *, curiosity: bool) -> PPO:
    """Makes PPO, with or without curiosity, for a number of training steps."""
    env = frozen_lake()
    obs_size = gym.spaces.flatdim(env.observation_space)
    num_actions = gym.spaces.flatdim(env.action_space)
    actor_net, critic_net = (
        Net(state_shape=obs_size, hidden_sizes=[64], activation=nn.Tanh) for _ in range(2)
    )
    actor = DiscreteActor(preprocess_net=actor_net, action_shape=num_actions, softmax_output=False)
    critic = DiscreteCritic(preprocess_net=critic_net)
    # A new critic should predict zero: random values would mislead the policy at first.
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
    """Makes an environment with one-hot observations."""
    env = gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False, max_episode_steps=16)
    return gym.wrappers.FlattenObservation(env)


def main() -> None:
    """Trains with and without curiosity and prints a table."""
    options = make_parser(__doc__, num_seeds=5, num_steps=51_200).parse_args()
    # The networks are too small to benefit from more threads.
    torch.set_num_threads(1)
    histories: dict[str, list[History]] = {"with curiosity": [], "without curiosity": []}
    for seed in options.seeds:
        histories["with curiosity"].append(train(seed, options.steps))
        histories["without curiosity"].append(train(seed, options.steps, curiosity=False))
    report_success(options, histories, title="Tianshou's PPO on FrozenLake 8x8")


if __name__ == "__main__":
    main()
