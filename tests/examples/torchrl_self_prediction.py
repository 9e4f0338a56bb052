"""PPO in TorchRL, with an encoder that also learns to predict what comes next.

The policy reads the latents of an encoder that is shared with a self-predictive representation,
after SPR of Schwarzer et al. (2021), https://arxiv.org/abs/2007.05929. So two losses train one
network: TorchRL's `ClipPPOLoss`, which is the learner's, and that of the representation
(`tests/modules/self_prediction.py`), which brings its own. The task is Gymnasium's CartPole-v1.
This example needs the extra torchrl: pip install -e '.[torchrl]'

    python tests/examples/torchrl_self_prediction.py
    python tests/examples/torchrl_self_prediction.py --seeds 0 1 --steps 60000 --plot curves.pdf

Where to look: `as_batch` puts what each module learns from into one `TensorDict`. What the replay
buffer samples of it goes through `compute_losses` as it is.

The average return is that of 50 episodes after training, in which the policy takes its likeliest
actions. The loss of the representation, and the variance of its latents, are those before and after
training on 4,000 transitions of a random policy that were not trained on. A variance near 0 would
mean that all observations look the same to the policy. The same seed gives the same numbers on the
same machine, whichever other seeds run.
"""

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import gymnasium as gym
    import torch
    from gymnasium.vector import AutoresetMode
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torch import nn
    from torch.distributions import Categorical
    from torchrl import torchrl_logger
    from torchrl.collectors import Collector
    from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
    from torchrl.envs import (
        Compose,
        ExplorationType,
        GymWrapper,
        RewardScaling,
        RewardSum,
        TransformedEnv,
        set_exploration_type,
    )
    from torchrl.modules import MLP, ActorValueOperator, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import parse_options, print_table, progress_bar, save_plot
    from modules.self_prediction import SelfPrediction
except ModuleNotFoundError as error:
    remedy = "This example needs the extra torchrl: pip install -e '.[torchrl]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

NUM_ENVS = 8
STEPS_PER_ROLLOUT = 1024  # in all environments together
BATCH_SIZE = 256
NUM_EPOCHS = 10
LEARNING_RATE = 1e-3
LATENT_SIZE = 64
NUM_HELD_OUT = 4_000
NUM_EVALUATION_EPISODES = 50
MAX_EPISODE_STEPS = 500


class Result(NamedTuple):
    """What came out of one training."""

    seed: int
    average_return: float
    loss_before: float
    loss_after: float
    variance_before: float
    variance_after: float
    returns: list[float]
    """Average returns of the last 20 episodes, after each rollout."""


class PPOLearner(Learner[torch.Tensor]):
    """Lets TorchRL compute the loss of the policy, which brings none."""

    def __init__(self, *, module: nn.ModuleDict) -> None:
        super().__init__(module=module)
        policy = module["policy"]
        self.ppo_loss = ClipPPOLoss(
            policy.get_policy_head(), policy.get_value_head(), normalize_advantage=True
        )

    def compute_loss_for_module(
        self, *, module_id: str, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Adds up the losses of the heads on the latents in `fwd_out`. It is a `TensorDict`, as
        `batch` is."""
        # The latents in the batch are those of the policy that collected it.
        terms = self.ppo_loss(batch.copy().update(fwd_out))
        losses = {name: terms[name] for name in ("loss_objective", "loss_critic", "loss_entropy")}
        self.metrics.log_dict(losses, key=module_id)
        return torch.stack([*losses.values()]).sum()


def train(seed: int, num_steps: int) -> Result:
    """Trains a new policy and a new representation."""
    torch.manual_seed(seed)
    modules = make_modules()
    env = make_env(NUM_ENVS, seed)
    held_out = as_batch(env.rollout(NUM_HELD_OUT // NUM_ENVS, break_when_any_done=False))
    learner = PPOLearner(module=modules)
    optimizer = torch.optim.Adam(modules.parameters(), lr=LEARNING_RATE)
    before = evaluate_representation(modules, held_out)

    num_rollouts = -(-num_steps // STEPS_PER_ROLLOUT)
    collector = Collector(
        env,
        modules["policy"].get_policy_operator(),
        frames_per_batch=STEPS_PER_ROLLOUT,
        total_frames=num_rollouts * STEPS_PER_ROLLOUT,
        auto_register_policy_transforms=False,
    )
    gae = GAE(gamma=0.99, lmbda=0.95, value_network=modules["policy"].get_value_operator())
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(STEPS_PER_ROLLOUT),
        sampler=SamplerWithoutReplacement(),
        batch_size=BATCH_SIZE,
    )
    last_returns: deque[float] = deque(maxlen=20)
    returns: list[float] = []
    with progress_bar(collector.total_frames, f"seed {seed}") as progress:
        for rollout in collector:
            with torch.no_grad():
                gae(rollout)
            buffer.extend(as_batch(rollout))
            for _ in range(NUM_EPOCHS):
                for batch in buffer:
                    losses = learner.compute_losses(fwd_out=forward(modules, batch), batch=batch)
                    optimizer.zero_grad()
                    torch.autograd.backward([*losses.values()])
                    optimizer.step()
                    modules["representation"].update_target()

            last_returns.extend(rollout["next", "episode_reward"][rollout["next", "done"]].tolist())
            returns.append(sum(last_returns) / len(last_returns))
            loss = learner.metrics.reduce()["representation"]["prediction_loss"]
            progress.set_postfix_str(
                f"return {returns[-1]:.0f}, prediction loss {loss:.2g}", refresh=False
            )
            progress.update(STEPS_PER_ROLLOUT)
    collector.shutdown()

    after = evaluate_representation(modules, held_out)
    return Result(
        seed=seed,
        average_return=evaluate_policy(modules["policy"], seed),
        loss_before=float(before["prediction_loss"]),
        loss_after=float(after["prediction_loss"]),
        variance_before=float(before["latent_variance"]),
        variance_after=float(after["latent_variance"]),
        returns=returns,
    )


def make_env(num_envs: int, seed: int) -> TransformedEnv:
    """Makes environments that step together, and that sum up the return of an episode as
    `"episode_reward"`."""
    envs = gym.make_vec(
        "CartPole-v1",
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},  # since TorchRL does it
        max_episode_steps=MAX_EPISODE_STEPS,
    )
    # The critic is slow to learn values as large as those of the unscaled rewards.
    transforms = Compose(RewardSum(), RewardScaling(loc=0.0, scale=0.1))
    env = TransformedEnv(GymWrapper(envs, categorical_action_encoding=True), transforms)
    env.set_seed(seed)
    return env


def make_modules() -> nn.ModuleDict:
    """Makes a policy and a representation that share an encoder."""
    encoder = MLP(
        in_features=4,
        out_features=LATENT_SIZE,
        num_cells=[64],
        activation_class=nn.Tanh,
        activate_last_layer=True,
    )
    actor_head = ProbabilisticActor(
        TensorDictModule(nn.Linear(LATENT_SIZE, 2), in_keys=["latent"], out_keys=["logits"]),
        in_keys=["logits"],
        distribution_class=Categorical,
        return_log_prob=True,
    )
    critic_head = ValueOperator(nn.Linear(LATENT_SIZE, 1), in_keys=["latent"])
    shared = TensorDictModule(encoder, in_keys=["observation"], out_keys=["latent"])
    return nn.ModuleDict(
        {
            "policy": ActorValueOperator(shared, actor_head, critic_head),
            "representation": SelfPrediction(encoder, latent_size=LATENT_SIZE, num_actions=2),
        }
    )


def as_batch(rollout: TensorDict) -> TensorDict:
    """Returns the data of each module by module ID, with one row for each step."""
    steps = rollout.reshape(-1)
    transitions = {
        "obs": steps["observation"],
        "actions": steps["action"],
        "new_obs": steps["next", "observation"],
    }
    return TensorDict({"policy": steps, "representation": transitions}, batch_size=steps.batch_size)


def forward(modules: nn.ModuleDict, batch: TensorDict) -> dict[str, Any]:
    """Returns the output of each module. That of the policy are the latents, since PPO's loss calls
    the heads."""
    encode = modules["policy"][0]
    return {
        "policy": encode(batch["policy"].select("observation")),
        "representation": modules["representation"](batch["representation"]),
    }


def evaluate_policy(policy: ActorValueOperator, seed: int) -> float:
    """Returns the average return of an episode in each of many environments."""
    # The environments of the training had the seeds before.
    env = make_env(NUM_EVALUATION_EPISODES, seed + NUM_ENVS)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        steps = env.rollout(
            MAX_EPISODE_STEPS, policy.get_policy_operator(), break_when_any_done=False
        )
    env.close()
    # Where an episode ends early, others follow. Only the first one counts.
    first_ends = steps["next", "done"].int().argmax(dim=1, keepdim=True)
    return steps["next", "episode_reward"].gather(1, first_ends).mean().item()


@torch.no_grad()
def evaluate_representation(modules: nn.ModuleDict, batch: TensorDict) -> dict[str, torch.Tensor]:
    """Returns what the representation logs on a batch."""
    learner = Learner[torch.Tensor](module=modules)
    fwd_out = {"representation": modules["representation"](batch["representation"])}
    learner.compute_losses(fwd_out=fwd_out, batch=batch)
    return learner.metrics.reduce()["representation"]


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, and prints a table."""
    options = parse_options(__doc__, num_seeds=3, num_steps=40_000, argv=argv)

    # The networks are so small that more threads only wait for each other.
    torch.set_num_threads(1)
    torchrl_logger.setLevel("WARNING")  # else it writes into the progress bars
    results = [train(seed, options.steps) for seed in options.seeds]

    rows = [
        [f"{seed}", f"{average_return:.0f}", *(f"{value:.4f}" for value in representation)]
        for seed, average_return, *representation, _ in results
    ]
    print_table(
        [
            "seed",
            "average return",
            "loss before",
            "loss after",
            "variance before",
            "variance after",
        ],
        rows,
    )
    if options.plot:
        save_plot(
            options.plot,
            [STEPS_PER_ROLLOUT * (rollout + 1) for rollout in range(len(results[0].returns))],
            {"PPO and self-prediction on one encoder": [result.returns for result in results]},
            title="TorchRL's PPO on CartPole",
            xlabel="steps",
            ylabel="average return of the last 20 episodes",
            ylim=(0, 1.04 * MAX_EPISODE_STEPS),
        )


if __name__ == "__main__":
    main()
