"""PPO with curiosity, in a hand-written training loop.

The task is Gymnasium's FrozenLake, 8x8 and not slippery. The only reward is at the goal, 14 steps
away, and an episode ends after 16 steps. Random walks reach the goal in 3 of a million episodes, so
plain PPO has nothing to learn from. The Intrinsic Curiosity Module (`tests/modules/icm.py`) also
rewards the agent for transitions that the module cannot predict yet, which leads to new states.

    python tests/examples/ppo_curiosity.py

This example needs the extra examples: pip install -e '.[examples]'

`PPOLearner` has the policy's loss, and the curiosity module has its own. `train_on` gets both from
one call of `compute_losses`. Runs without curiosity leave the module out; everything else is the
same.

Only the module needs the lines that end in `# curiosity`. Without them the program trains PPO
alone, with its loss in `PPOLearner`.
"""

import math
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import gymnasium as gym
    import numpy as np
    import torch
    from gymnasium.vector import AutoresetMode, VectorEnv
    from torch import nn
    from torch.distributions import Categorical

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import History, Progress, make_parser, report_success
    from modules.icm import ICM  # curiosity
except ModuleNotFoundError as error:
    remedy = "This example needs the extra examples: pip install -e '.[examples]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None


@dataclass(frozen=True)
class Config:
    """The configuration of a run."""

    num_envs: int = 16
    max_episode_steps: int = 16
    rollout_length: int = 64
    """Steps in each environment between two updates."""
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 4e-3
    """The initial learning rate. It falls linearly to zero."""
    gamma: float = 0.95
    gae_lambda: float = 0.95
    clip: float = 0.2
    vf_weight: float = 0.5
    entropy_weight: float = 0.005
    curiosity_weight: float = 0.1  # curiosity
    """The weight of the intrinsic rewards."""  # curiosity


class Policy(nn.Module):
    """An actor and a critic."""

    def __init__(self, obs_size: int, num_actions: int, hidden_size: int = 64) -> None:
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(obs_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, num_actions)
        )
        value_head = nn.Linear(hidden_size, 1)
        # A new critic should predict zero: random values would mislead the policy at first.
        nn.init.zeros_(value_head.weight)
        nn.init.zeros_(value_head.bias)
        self.critic = nn.Sequential(nn.Linear(obs_size, hidden_size), nn.Tanh(), value_head)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Returns `"action_dist_inputs"`, logits of shape `(..., num_actions)`, and `"vf_preds"`,
        of shape `(...)`."""
        return {
            "action_dist_inputs": self.actor(batch["obs"]),
            "vf_preds": self.critic(batch["obs"]).squeeze(dim=-1),
        }


class PPOLearner(Learner[torch.Tensor, Config]):
    """Computes PPO's loss for every module without a loss method, here the policy."""

    def compute_loss_for_module(
        self,
        *,
        module_id: str,
        config: Config,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        **kwargs: Any,
    ) -> torch.Tensor:
        """Sums the clipped objective, the error of the critic and the entropy of the policy."""
        action_dist = Categorical(logits=fwd_out["action_dist_inputs"])
        ratio = (action_dist.log_prob(batch["actions"]) - batch["action_logp"]).exp()
        advantages = (batch["advantages"] - batch["advantages"].mean()) / (
            batch["advantages"].std() + 1e-8
        )
        clipped_ratio = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped_ratio).mean()
        vf_loss = 0.5 * (fwd_out["vf_preds"] - batch["value_targets"]).pow(2).mean()
        entropy = action_dist.entropy().mean()
        self.metrics.log_dict(
            {"policy_loss": policy_loss, "vf_loss": vf_loss, "entropy": entropy}, key=module_id
        )
        return policy_loss + config.vf_weight * vf_loss - config.entropy_weight * entropy


def train(seed: int, num_steps: int, *, curiosity: bool = True) -> History:
    """Trains a policy from scratch and, with curiosity, the module that rewards it."""
    config = Config()
    torch.manual_seed(seed)
    envs = make_envs(config)
    spaces = envs.single_observation_space, envs.single_action_space
    sizes = [gym.spaces.flatdim(space) for space in spaces]
    modules = nn.ModuleDict({"policy": Policy(*sizes)})
    if curiosity:  # curiosity
        modules["icm"] = ICM(*sizes)  # curiosity
    learner = PPOLearner(module=modules, config=config)
    optimizer = torch.optim.Adam(modules.parameters(), eps=1e-5)

    batch_size = config.num_envs * config.rollout_length
    num_updates = math.ceil(num_steps / batch_size)
    progress = Progress(num_steps, f"seed {seed} {'with' if curiosity else 'without'} curiosity")
    successes: deque[bool] = deque(maxlen=100)
    obs, _ = envs.reset(seed=seed)
    for update in range(num_updates):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - update / num_updates)
        obs, rollout = collect_rollout(envs, obs, modules["policy"], config, successes)
        train_on(rollout, learner, optimizer)
        figures = {"success": sum(successes) / len(successes)}
        metrics = learner.metrics.reduce(sep="/")
        if curiosity:  # curiosity
            figures["inverse_loss"] = float(metrics["icm/inverse_loss"])  # curiosity
        progress.show((update + 1) * batch_size, **figures)
    envs.close()
    return progress.history


def train_on(
    rollout: dict[str, torch.Tensor], learner: PPOLearner, optimizer: torch.optim.Optimizer
) -> None:
    """Trains all modules on a rollout, in minibatches."""
    config, modules = learner.config, learner.module
    with torch.no_grad():
        rewards = rollout["rewards"]
        if "icm" in modules:  # curiosity
            intrinsic_rewards = modules["icm"](rollout)["intrinsic_rewards"]  # curiosity
            rewards = rewards + config.curiosity_weight * intrinsic_rewards  # curiosity
        new_vf_preds = modules["policy"]({"obs": rollout["new_obs"]})["vf_preds"]
    rollout["advantages"] = estimate_advantages(rollout, rewards, new_vf_preds, config)
    rollout["value_targets"] = rollout["advantages"] + rollout["vf_preds"]

    data = {column: values.flatten(0, 1) for column, values in rollout.items()}
    for _ in range(config.num_epochs):
        for indices in torch.randperm(len(data["obs"])).chunk(config.num_minibatches):
            minibatch = {column: values[indices] for column, values in data.items()}
            losses = learner.compute_losses(
                fwd_out={module_id: module(minibatch) for module_id, module in modules.items()},
                batch=dict.fromkeys(modules, minibatch),
            )
            optimizer.zero_grad()
            torch.autograd.backward([*losses.values()])
            optimizer.step()


def make_envs(config: Config) -> VectorEnv[Any, Any, Any]:
    """Makes the environments. A step that ends an episode also starts the next one."""
    return gym.make_vec(
        "FrozenLake-v1",
        num_envs=config.num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        map_name="8x8",
        is_slippery=False,
        max_episode_steps=config.max_episode_steps,
    )


def collect_rollout(
    envs: VectorEnv[Any, Any, Any],
    obs: Any,
    policy: nn.Module,
    config: Config,
    successes: deque[bool],
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Lets the policy act, starting from `obs`, and records which episodes ended at the goal.

    Returns:
        The last observations, from which the next rollout starts, and the rollout by column:
        tensors of shape `(rollout_length, num_envs, ...)`.
    """
    one_hot = torch.eye(gym.spaces.flatdim(envs.single_observation_space))
    steps: list[dict[str, torch.Tensor]] = []
    for _ in range(config.rollout_length):
        with torch.no_grad():
            fwd_out = policy({"obs": one_hot[obs]})
            action_dist = Categorical(logits=fwd_out["action_dist_inputs"])
            actions = action_dist.sample()
        next_obs, rewards, terminateds, truncateds, infos = envs.step(actions.numpy())
        dones = terminateds | truncateds
        successes.extend((rewards[dones] > 0).tolist())
        # At the end of an episode, next_obs is the first observation of the next episode. The array
        # final_obs contains objects.
        new_obs = (
            np.where(dones, infos["final_obs"], next_obs).astype(int) if dones.any() else next_obs
        )
        steps.append(
            {
                "obs": one_hot[obs],
                "new_obs": one_hot[new_obs],
                "actions": actions,
                "action_logp": action_dist.log_prob(actions),
                "vf_preds": fwd_out["vf_preds"],
                "rewards": torch.as_tensor(rewards, dtype=torch.float32),
                "terminateds": torch.as_tensor(terminateds),
                "dones": torch.as_tensor(dones),
            }
        )
        obs = next_obs
    return obs, {column: torch.stack([step[column] for step in steps]) for column in steps[0]}


def estimate_advantages(
    rollout: dict[str, torch.Tensor],
    rewards: torch.Tensor,
    new_vf_preds: torch.Tensor,
    config: Config,
) -> torch.Tensor:
    """Estimates advantages by GAE (Schulman et al., 2016), https://arxiv.org/abs/1506.02438.

    All tensors have shape `(length, num_envs)`. `new_vf_preds` are the critic's values of
    `"new_obs"`.
    """
    # A truncated episode continues with the value of its last observation, a terminated episode
    # with zero.
    deltas = rewards + config.gamma * new_vf_preds * ~rollout["terminateds"] - rollout["vf_preds"]
    advantages = torch.zeros_like(deltas)
    later = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        later = deltas[t] + config.gamma * config.gae_lambda * later * ~rollout["dones"][t]
        advantages[t] = later
    return advantages


def main() -> None:
    """Trains with and without curiosity and prints a table."""
    options = make_parser(__doc__, num_seeds=5, num_steps=60_000).parse_args()
    # The networks are too small to benefit from more threads.
    torch.set_num_threads(1)
    histories: dict[str, list[History]] = {"with curiosity": [], "without curiosity": []}
    for seed in options.seeds:
        histories["with curiosity"].append(train(seed, options.steps))
        histories["without curiosity"].append(train(seed, options.steps, curiosity=False))
    report_success(options, histories, title="PPO on FrozenLake 8x8")


if __name__ == "__main__":
    main()
