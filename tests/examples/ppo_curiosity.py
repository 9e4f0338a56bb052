"""PPO with curiosity, in a training loop of its own.

The task is Gymnasium's FrozenLake, 8x8 and not slippery. The only reward lies at the goal, 14 steps
away, and an episode ends after 16. Random walks get there in 3 of a million episodes, so plain PPO
has nothing to learn from. With the Intrinsic Curiosity Module (`tests/modules/icm.py`) the agent is
also rewarded for what it cannot predict yet, which leads it on to where it has not been.

    python tests/examples/ppo_curiosity.py
    python tests/examples/ppo_curiosity.py --seeds 0 1 --steps 40000 --plot curves.pdf

This example needs the extra examples: pip install -e '.[examples]'

The policy has no loss of its own: PPO's is in `PPOLearner`. The curiosity module brings its own.
`train` gets both from one call of `compute_losses`. Without curiosity the module is left out, and
all else is the same.

The lines that end in `# curiosity` are what the module adds. Without them the program trains PPO
alone, whose loss stays in `PPOLearner`.

The success rate is that of the last 100 episodes of training, in which actions are sampled. The
same seed gives the same numbers on the same machine, whichever other seeds run.
"""

import sys
from collections import deque
from collections.abc import Sequence
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
    from examples.shared import parse_options, print_table, progress_bar, save_plot
    from modules.icm import ICM  # curiosity
except ModuleNotFoundError as error:
    remedy = "This example needs the extra examples: pip install -e '.[examples]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

ARMS = {"with curiosity": True, "without curiosity": False}


@dataclass(frozen=True)
class Config:
    """What a run is configured with."""

    total_steps: int = 60_000
    """Steps in the environments, all of them together. Rounded up to whole rollouts."""
    num_envs: int = 16
    max_episode_steps: int = 16
    rollout_length: int = 64
    """Steps in each environment between two updates."""
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 4e-3
    """At the start. It falls to zero in a straight line."""
    gamma: float = 0.95
    gae_lambda: float = 0.95
    clip: float = 0.2
    vf_weight: float = 0.5
    entropy_weight: float = 0.005
    curiosity_weight: float = 0.1  # curiosity
    """The weight of the intrinsic rewards beside those of the environment."""  # curiosity


class Policy(nn.Module):
    """An actor and a critic."""

    def __init__(self, obs_size: int, num_actions: int, hidden_size: int = 64) -> None:
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(obs_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, num_actions)
        )
        value_head = nn.Linear(hidden_size, 1)
        # Else the random values of a new critic, and not rewards, are what the policy learns from
        # at first.
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
    """Computes PPO's loss for every module that brings none, which here is the policy."""

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


def train(config: Config, *, seed: int, curiosity: bool) -> list[dict[str, Any]]:
    """Trains one policy from scratch.

    Args:
        config: The configuration.
        seed: Decides the initial weights, the sampled actions and the order of the data.
        curiosity: Whether a curiosity module is trained too, and rewards the policy.

    Returns:
        The metrics of each update: `"success_rate"`, and by module ID what the losses logged.
    """
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
    num_updates = -(-config.total_steps // batch_size)
    successes: deque[bool] = deque(maxlen=100)
    history: list[dict[str, Any]] = []
    obs, _ = envs.reset(seed=seed)
    description = f"seed {seed} {'with' if curiosity else 'without'} curiosity"
    with progress_bar(num_updates * batch_size, description) as progress:
        for update in range(num_updates):
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - update / num_updates)
            obs, rollout = collect_rollout(
                envs, obs, modules["policy"], config.rollout_length, successes
            )
            train_on(rollout, learner, optimizer)
            learner.metrics.log_value(
                "success_rate", sum(successes) / len(successes), reduce="item"
            )
            metrics = learner.metrics.reduce()
            history.append(metrics)
            shown = f"success {metrics['success_rate']:.0%}"
            if curiosity:  # curiosity
                shown += f", inverse loss {metrics['icm']['inverse_loss']:.2g}"  # curiosity
            progress.set_postfix_str(shown, refresh=False)
            progress.update(batch_size)
    envs.close()
    return history


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
    """Makes the environments. Where an episode ends, `step` also begins the next one."""
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
    envs: VectorEnv[Any, Any, Any], obs: Any, policy: nn.Module, length: int, successes: deque[bool]
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Lets the policy act, from `obs` on, and notes of each episode that ends whether it ended at
    the goal.

    Returns:
        The observations to go on from, and the rollout by column, tensors of shape `(length,
        num_envs, ...)`.
    """
    one_hot = torch.eye(gym.spaces.flatdim(envs.single_observation_space))
    steps: list[dict[str, torch.Tensor]] = []
    for _ in range(length):
        with torch.no_grad():
            fwd_out = policy({"obs": one_hot[obs]})
            action_dist = Categorical(logits=fwd_out["action_dist_inputs"])
            actions = action_dist.sample()
        next_obs, rewards, terminateds, truncateds, infos = envs.step(actions.numpy())
        dones = terminateds | truncateds
        successes.extend((rewards[dones] > 0).tolist())
        # Where an episode ended, next_obs belongs to the next one. The array final_obs is one of
        # objects.
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

    All tensors are of shape `(length, num_envs)`. `new_vf_preds` are the critic's values of
    `"new_obs"`.
    """
    # An episode that was cut off is worth what its last observation is, one that ended is worth
    # nothing more.
    deltas = rewards + config.gamma * new_vf_preds * ~rollout["terminateds"] - rollout["vf_preds"]
    advantages = torch.zeros_like(deltas)
    later = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        later = deltas[t] + config.gamma * config.gae_lambda * later * ~rollout["dones"][t]
        advantages[t] = later
    return advantages


def main(argv: Sequence[str] | None = None) -> None:
    """Trains with and without curiosity, and prints a table."""
    options = parse_options(__doc__, num_seeds=5, num_steps=Config.total_steps, argv=argv)

    # The networks are so small that more threads only wait for each other.
    torch.set_num_threads(1)
    config = Config(total_steps=options.steps)
    header = ["success rate", *ARMS]
    header.extend(["forward loss", "inverse loss"])  # curiosity
    rows: list[list[str]] = []
    curves: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        histories = [train(config, seed=seed, curiosity=curiosity) for curiosity in ARMS.values()]
        for arm, history in zip(ARMS, histories, strict=True):
            curves[arm].append([metrics["success_rate"] for metrics in history])
        rows.append(
            [f"seed {seed}", *(f"{history[-1]['success_rate']:.0%}" for history in histories)]
        )
        rows[-1].extend(f"{loss:.2g}" for loss in histories[0][-1]["icm"].values())  # curiosity
    solved = (
        f"{sum(curve[-1] > 0.9 for curve in curves[arm])} of {len(options.seeds)}" for arm in ARMS
    )
    print_table(header, [*rows, ["above 90%", *solved]])
    if options.plot:
        batch_size = config.num_envs * config.rollout_length
        save_plot(
            options.plot,
            [batch_size * (update + 1) for update in range(len(history))],
            curves,
            title="PPO on FrozenLake 8x8",
            xlabel="steps",
            ylabel="success rate of the last 100 episodes",
            ylim=(-0.02, 1.02),
        )


if __name__ == "__main__":
    main()
