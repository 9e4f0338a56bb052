"""PPO with curiosity on Ray RLlib: the module of `ppo_curiosity.py`, with RLlib as the learner.

The task is the same: FrozenLake, 8x8 and not slippery, with 16 steps to a goal that is 14 steps
away. So is the curiosity module, `tests/modules/icm.py`, which knows nothing of RLlib.
`tests/modules/icm_rl_module.py` mixes it with RLlib's module class in a few lines, and that is all
that RLlib asks for. Everything below is RLlib's usual configuration of an algorithm. The learner
class comes from RLlib's own example of curiosity: it adds the module's intrinsic rewards to those
of the environment.

    python tests/examples/rllib_curiosity.py
    python tests/examples/rllib_curiosity.py --num-learners 2 --plot curves.pdf

This example needs the extra rllib: pip install -e '.[rllib]'

With `--num-learners 2` two processes compute the losses, each on its half of every batch, and
average the gradients. The success rate is that of the last 100 episodes of training, with all their
exploration.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
try:
    import gymnasium as gym
    import numpy as np
    import ray
    import torch
    from examples.shared import add_plot_option, print_table, progress_bar, save_plot
    from modules.icm_rl_module import ICMRLModule
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
        ICM_MODULE_ID,
        PPOTorchLearnerWithCuriosity,
    )
    from ray.tune import register_env
except ModuleNotFoundError as error:
    remedy = "This example needs the extra rllib: pip install -e '.[rllib]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

BATCH_SIZE = 1024
MINIBATCH_SIZE = 256


def main() -> None:
    args = parse_args()
    register_env("frozen_lake", frozen_lake)
    torch.set_num_threads(1)  # more would only wait for each other: the networks are small
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    ray.init(
        num_cpus=1 + args.num_learners,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        # The learners are processes of their own. They find `modules` where this program does.
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    try:
        train(args)
    finally:
        ray.shutdown()


def train(args: argparse.Namespace) -> None:
    algorithm = ppo_config(args).build_algo()
    steps: list[int] = [0]
    success: list[float] = []
    with progress_bar(args.steps, f"seed {args.seed}") as progress:
        while steps[-1] < args.steps:
            result = algorithm.train()
            steps.append(int(result["num_env_steps_sampled_lifetime"]))
            success.append(result["env_runners"]["episode_return_mean"])
            icm = result["learners"][ICM_MODULE_ID]  # what the module has logged
            shown = f"success {success[-1]:.0%}, inverse loss {icm['inverse_loss']:.2g}"
            progress.set_postfix_str(shown, refresh=False)
            progress.update(min(steps[-1], args.steps) - progress.n)
    algorithm.stop()

    losses = [f"{icm[name]:.2g}" for name in ("forward_loss", "inverse_loss")]
    print_table(
        ["", "success rate", "forward loss", "inverse loss"],
        [[f"seed {args.seed}", f"{success[-1]:.0%}", *losses]],
    )
    if args.plot:
        save_plot(
            args.plot,
            steps[1:],
            {f"--curiosity {args.curiosity}": [success]},
            title="RLlib's PPO on FrozenLake 8x8",
            xlabel="steps",
            ylabel="success rate of the last 100 episodes",
            ylim=(-0.02, 1.02),
        )


def ppo_config(args: argparse.Namespace) -> PPOConfig:
    policy = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[64]))
    icm = RLModuleSpec(
        module_class=ICMRLModule, learner_only=True, model_config={"feature_size": 32}
    )
    specs = {DEFAULT_MODULE_ID: policy, ICM_MODULE_ID: icm}
    num_shares = max(1, args.num_learners)  # of each batch
    return (
        PPOConfig()
        .environment("frozen_lake")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .learners(
            num_learners=args.num_learners,
            learner_class=PPOTorchLearnerWithCuriosity,
            learner_config_dict={
                "intrinsic_reward_coeff": args.curiosity,
                # RLlib's learner asks for it. Our module has its own, beta.
                "forward_loss_weight": None,
            },
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .training(
            train_batch_size_per_learner=BATCH_SIZE // num_shares,
            minibatch_size=MINIBATCH_SIZE // num_shares,
            num_epochs=6,
            lr=[[0, 2e-3], [args.steps, 0.0]],
            gamma=0.9,
            lambda_=0.95,
            clip_param=0.2,
            entropy_coeff=0.02,
            vf_loss_coeff=0.5,
            use_kl_loss=False,
            grad_clip=0.5,
        )
        .debugging(seed=args.seed)
    )


def frozen_lake(env_config: dict) -> gym.Env:
    env = gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False, max_episode_steps=16)
    return gym.wrappers.DtypeObservation(gym.wrappers.FlattenObservation(env), np.float32)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="PPO with curiosity on Ray RLlib.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=60_000, help="steps in the environment")
    parser.add_argument(
        "--num-learners", type=int, default=0, help="learner processes; 0 is in this process"
    )
    parser.add_argument(
        "--curiosity", type=float, default=1.0, help="weight of the intrinsic rewards; 0 is without"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the environment and of the weights"
    )
    add_plot_option(parser)
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps is at least 1, not {args.steps}")
    if not 0 <= args.num_learners <= MINIBATCH_SIZE:
        parser.error(f"--num-learners is from 0 to {MINIBATCH_SIZE}, not {args.num_learners}")
    if args.curiosity < 0:
        parser.error(f"--curiosity is at least 0, not {args.curiosity}")
    return args


if __name__ == "__main__":
    main()
