"""Random Network Distillation in Stable-Baselines3's PPO, as a callback.

PPO alone learns nothing on this task, which is the same as in `ppo_curiosity.py`. Random Network
Distillation (Burda et al., 2018, https://arxiv.org/abs/1810.12894) also rewards the agent for
reaching states that are new to a network.

    python tests/examples/stable_baselines3_rnd.py

This example needs the extra sb3: pip install -e '.[sb3]'

Where to look: pass an `RNDCallback` to the `learn` method of SB3's PPO, for any environment with
flat observations. The callback adds intrinsic rewards to each rollout before PPO learns from it,
trains the module (`tests/modules/rnd.py`) on the module's own loss, and passes the module's metrics
to SB3's logger. Runs without RND leave the callback out; everything else is the same.

As in the paper, intrinsic rewards are divided by the running standard deviation of their discounted
sums. Unlike in the paper, one critic predicts both kinds of returns, so both end with the episode.
Observations are one-hot and not normalised.
"""

import sys
from pathlib import Path
from typing import Any

try:
    import gymnasium as gym
    import numpy as np
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.logger import KVWriter, Logger
    from stable_baselines3.common.running_mean_std import RunningMeanStd
    from stable_baselines3.common.utils import LinearSchedule

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import History, Progress, make_parser, report_success
    from modules.rnd import RND
except ModuleNotFoundError as error:
    remedy = "This example needs the extra sb3: pip install -e '.[sb3]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None


class RNDCallback(BaseCallback):
    """Adds the intrinsic rewards of an RND module to each rollout and trains the module.

    Args:
        rnd: The module, on the same device as the model.
        weight: The weight of the intrinsic rewards.
        learning_rate: The learning rate of the module. Epochs and batch size are PPO's.
    """

    model: PPO

    def __init__(self, rnd: RND, *, weight: float = 1.0, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.weight = weight
        self.learner = Learner[torch.Tensor](module={"rnd": rnd})
        self.optimizer = torch.optim.Adam(rnd.parameters(), lr=learning_rate)
        self.intrinsic_returns = np.zeros(())  # discounted sums, later one per environment
        self.return_stats = RunningMeanStd()

    def _on_rollout_start(self) -> None:
        self.new_obs: list[np.ndarray] = []

    def _on_step(self) -> bool:
        new_obs = self.locals["new_obs"].copy()
        # At the end of an episode, new_obs is the first observation of the next episode.
        for env in self.locals["dones"].nonzero()[0]:
            new_obs[env] = self.locals["infos"][env]["terminal_observation"]
        self.new_obs.append(new_obs)
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        new_obs = buffer.to_torch(np.concatenate(self.new_obs)).float()

        intrinsic_rewards = self._normalised_rewards(new_obs)
        buffer.rewards += self.weight * intrinsic_rewards
        # After a rollout, "values" are the values of the observations that follow it.
        buffer.compute_returns_and_advantage(
            last_values=self.locals["values"], dones=self.locals["dones"]
        )

        self._train(new_obs)
        self.logger.record("rnd/intrinsic_reward", intrinsic_rewards.mean())
        for name, value in self.learner.metrics.reduce()["rnd"].items():
            self.logger.record(f"rnd/{name}", float(value))

    def _normalised_rewards(self, new_obs: torch.Tensor) -> np.ndarray:
        fwd_out = self.learner.module["rnd"]({"new_obs": new_obs})
        rewards = fwd_out["intrinsic_rewards"].numpy(force=True).reshape(-1, self.model.n_envs)
        for step_rewards in rewards:
            self.intrinsic_returns = self.model.gamma * self.intrinsic_returns + step_rewards
            self.return_stats.update(self.intrinsic_returns)
        return rewards / np.sqrt(self.return_stats.var)

    def _train(self, new_obs: torch.Tensor) -> None:
        for _ in range(self.model.n_epochs):
            for indices in torch.randperm(len(new_obs)).split(self.model.batch_size):
                batch = {"new_obs": new_obs[indices]}
                fwd_out = self.learner.module["rnd"](batch)
                losses = self.learner.compute_losses(fwd_out={"rnd": fwd_out}, batch={"rnd": batch})
                self.optimizer.zero_grad()
                losses["rnd"].backward()
                self.optimizer.step()


class ProgressWriter(KVWriter):
    """Shows some of the metrics of SB3's logger in a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        # The only reward is 1, at the goal.
        figures = {"success": key_values["rollout/ep_rew_mean"]}
        if "rnd/predictor_loss" in key_values:
            figures["predictor_loss"] = key_values["rnd/predictor_loss"]
        self.progress.show(step, **figures)


def make_model(seed: int) -> PPO:
    """Makes PPO and its environments, with one-hot observations."""
    envs = make_vec_env(
        "FrozenLake-v1",
        n_envs=16,
        env_kwargs={"map_name": "8x8", "is_slippery": False, "max_episode_steps": 16},
        wrapper_class=gym.wrappers.FlattenObservation,
    )
    model = PPO(
        "MlpPolicy",
        envs,
        learning_rate=LinearSchedule(start=4e-3, end=0.0, end_fraction=1.0),
        n_steps=64,
        batch_size=256,
        n_epochs=4,
        gamma=0.9,
        ent_coef=0.03,
        seed=seed,
        device="cpu",
    )
    # A new critic should predict zero: random values would mislead the policy at first.
    torch.nn.init.zeros_(model.policy.value_net.weight)
    return model


def train(seed: int, num_steps: int, *, with_rnd: bool = True) -> History:
    """Trains PPO from scratch."""
    model = make_model(seed)  # also seeds torch, and so the weights of RND
    callback = RNDCallback(RND(obs_size=model.observation_space.shape[0])) if with_rnd else None
    progress = Progress(num_steps, f"seed {seed} {'with' if with_rnd else 'without'} RND")
    model.set_logger(Logger(folder=None, output_formats=[ProgressWriter(progress)]))
    model.learn(num_steps, callback)
    model.env.close()
    return progress.history


def main() -> None:
    """Trains with and without RND and prints a table."""
    options = make_parser(__doc__, num_seeds=5, num_steps=40_960).parse_args()
    # The networks are too small to benefit from more threads.
    torch.set_num_threads(1)
    histories: dict[str, list[History]] = {"with RND": [], "without RND": []}
    for seed in options.seeds:
        histories["with RND"].append(train(seed, options.steps))
        histories["without RND"].append(train(seed, options.steps, with_rnd=False))
    report_success(options, histories, title="Stable-Baselines3's PPO on FrozenLake 8x8")


if __name__ == "__main__":
    main()
