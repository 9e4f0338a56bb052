"""PPO in TorchRL, with an encoder that also learns to predict its own next latents.

The policy shares its encoder with a self-predictive representation
(`tests/modules/self_prediction.py`), after SPR of Schwarzer et al. (2021),
https://arxiv.org/abs/2007.05929. Two losses train the encoder: TorchRL's `ClipPPOLoss`, which the
learner computes, and the representation's own. The task is Gymnasium's CartPole-v1.

    python tests/examples/torchrl_self_prediction.py

This example needs the extra torchrl: pip install -e '.[torchrl]'

Where to look: `as_batch` puts the data of all modules into one `TensorDict`. Samples from the
replay buffer go through `compute_losses` unchanged.

The second table shows the loss of the representation and the variance of its latents before and
after training, on 4,000 held-out transitions of a random policy. A variance near 0 would mean that
all observations look the same to the policy.
"""

import math
import sys
from collections import deque
from pathlib import Path
from typing import Any

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
    from torchrl.envs import Compose, GymWrapper, RewardScaling, RewardSum, TransformedEnv
    from torchrl.modules import MLP, ActorValueOperator, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import History, Progress, make_parser, print_table, report
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
MAX_EPISODE_STEPS = 500


class PPOLearner(Learner[torch.Tensor]):
    """Computes the loss of the policy with TorchRL."""

    def __init__(self, *, module: nn.ModuleDict) -> None:
        super().__init__(module=module)
        policy = module["policy"]
        self.ppo_loss = ClipPPOLoss(
            policy.get_policy_head(), policy.get_value_head(), normalize_advantage=True
        )

    def compute_loss_for_module(self, *, batch: Any, fwd_out: Any, **kwargs: Any) -> torch.Tensor:
        """Adds up the losses of the heads, given the latents in `fwd_out`, a `TensorDict`."""
        # The latents in the batch come from the policy that collected it.
        terms = self.ppo_loss(batch.copy().update(fwd_out))
        return terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]


def train(seed: int, num_steps: int) -> History:
    """Trains a policy and a representation from scratch."""
    torch.manual_seed(seed)
    modules = make_modules()
    policy = modules["policy"]
    env = make_env(NUM_ENVS, seed)
    random_rollout = env.rollout(NUM_HELD_OUT // NUM_ENVS, break_when_any_done=False)
    num_rollouts = math.ceil(num_steps / STEPS_PER_ROLLOUT)
    collector = Collector(
        env,
        policy.get_policy_operator(),
        frames_per_batch=STEPS_PER_ROLLOUT,
        total_frames=num_rollouts * STEPS_PER_ROLLOUT,
        auto_register_policy_transforms=False,
    )
    gae = GAE(gamma=0.99, lmbda=0.95, value_network=policy.get_value_operator())
    buffer = make_buffer()
    learner = PPOLearner(module=modules)
    optimizer = torch.optim.Adam(modules.parameters(), lr=LEARNING_RATE)
    progress = Progress(collector.total_frames, f"seed {seed}")
    returns: deque[float] = deque(maxlen=20)

    def show(steps: int, rollout: TensorDict) -> None:
        returns.extend(rollout["next", "episode_reward"][rollout["next", "done"]].tolist())
        representation = evaluate_representation(modules, as_batch(random_rollout))
        progress.show(steps, average_return=sum(returns) / len(returns), **representation)

    show(0, random_rollout)
    for number, rollout in enumerate(collector, start=1):
        with torch.no_grad():
            gae(rollout)
        buffer.extend(as_batch(rollout))
        train_on(buffer, learner, optimizer)
        show(number * STEPS_PER_ROLLOUT, rollout)
    collector.shutdown()
    return progress.history


def make_buffer() -> ReplayBuffer:
    """Creates a buffer for one rollout, from which minibatches are drawn."""
    return ReplayBuffer(
        storage=LazyTensorStorage(STEPS_PER_ROLLOUT),
        sampler=SamplerWithoutReplacement(),
        batch_size=BATCH_SIZE,
    )


def train_on(buffer: ReplayBuffer, learner: PPOLearner, optimizer: torch.optim.Optimizer) -> None:
    """Trains both modules on a rollout, in minibatches."""
    modules = learner.module
    for _ in range(NUM_EPOCHS):
        for batch in buffer:
            losses = learner.compute_losses(fwd_out=forward(modules, batch), batch=batch)
            optimizer.zero_grad()
            torch.autograd.backward([*losses.values()])
            optimizer.step()
            modules["representation"].update_target()


def make_env(num_envs: int, seed: int) -> TransformedEnv:
    """Makes vectorised environments that add up the return of an episode as `"episode_reward"`."""
    envs = gym.make_vec(
        "CartPole-v1",
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},  # TorchRL resets
        max_episode_steps=MAX_EPISODE_STEPS,
    )
    # Without scaling, returns are so large that the critic learns slowly.
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
    """Returns the data of each module by module ID, with one row per step."""
    steps = rollout.reshape(-1)
    transitions = {
        "obs": steps["observation"],
        "actions": steps["action"],
        "new_obs": steps["next", "observation"],
    }
    return TensorDict({"policy": steps, "representation": transitions}, batch_size=steps.batch_size)


def forward(modules: nn.ModuleDict, batch: TensorDict) -> dict[str, Any]:
    """Returns the output of each module. The policy's output is the latents, since PPO's loss calls
    the heads."""
    encode = modules["policy"][0]
    return {
        "policy": encode(batch["policy"].select("observation")),
        "representation": modules["representation"](batch["representation"]),
    }


@torch.no_grad()
def evaluate_representation(modules: nn.ModuleDict, batch: TensorDict) -> dict[str, float]:
    """Returns the metrics that the representation logs for a batch."""
    learner = Learner[torch.Tensor](module=modules)
    fwd_out = {"representation": modules["representation"](batch["representation"])}
    learner.compute_losses(fwd_out=fwd_out, batch=batch)
    logged = learner.metrics.reduce()["representation"]
    return {name: float(value) for name, value in logged.items()}


def main() -> None:
    """Trains and prints two tables."""
    options = make_parser(__doc__, num_seeds=3, num_steps=40_000).parse_args()
    # The networks are too small to benefit from more threads.
    torch.set_num_threads(1)
    torchrl_logger.setLevel("WARNING")  # keeps it out of the progress bars
    histories = [train(seed, options.steps) for seed in options.seeds]

    report(
        options,
        histories[0]["steps"],
        {
            "PPO and self-prediction on one encoder": [
                history["average_return"] for history in histories
            ]
        },
        number_format=".0f",
        title="TorchRL's PPO on CartPole",
        xlabel="steps",
        ylabel="average return of the last 20 episodes",
        ylim=(0, 1.04 * MAX_EPISODE_STEPS),
    )
    rows: list[list[str]] = []
    for seed, history in zip(options.seeds, histories, strict=True):
        loss, variance = history["prediction_loss"], history["latent_variance"]
        figures = [loss[0], loss[-1], variance[0], variance[-1]]
        rows.append([f"{seed}", *(f"{figure:.4f}" for figure in figures)])
    print_table(["seed", "loss before", "loss after", "variance before", "variance after"], rows)


if __name__ == "__main__":
    main()
