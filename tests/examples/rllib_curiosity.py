"""PPO with curiosity on Ray RLlib, with the module and the task of `ppo_curiosity.py`.

The task is FrozenLake, 8x8 and not slippery, with 16 steps for a goal that is 14 steps away. The
curiosity module, `tests/modules/icm.py`, does not import RLlib. `tests/modules/icm_rl_module.py`
adapts it with a subclass of a few lines. The rest of this program is the usual configuration of an
algorithm. Its learner class comes from RLlib's own curiosity example and adds the intrinsic rewards
to the rewards of the environment.

    python tests/examples/rllib_curiosity.py
    python tests/examples/rllib_curiosity.py --num-learners 2 --plot curves.pdf

This example needs the extra rllib: pip install -e '.[rllib]'

With `--num-learners 2`, two processes each compute the losses on half of every batch and average
their gradients.
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
    from examples.shared import History, Progress, make_parser, report_success
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
    """Trains and prints a table."""
    parser = make_parser(__doc__, num_seeds=1, num_steps=60_000)
    parser.add_argument(
        "--num-learners",
        type=int,
        default=0,
        help="number of learner processes; 0 trains in this process",
    )
    parser.add_argument(
        "--curiosity",
        type=float,
        default=1.0,
        help="weight of the intrinsic rewards; 0 ignores them",
    )
    options = parser.parse_args()
    register_env("frozen_lake", frozen_lake)
    torch.set_num_threads(1)  # the networks are too small to benefit from more
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    ray.init(
        num_cpus=1 + options.num_learners,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        # Learner processes must be able to import `modules` too.
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    try:
        histories = [train(options, seed) for seed in options.seeds]
    finally:
        ray.shutdown()
    report_success(
        options,
        {f"--curiosity {options.curiosity}": histories},
        title="RLlib's PPO on FrozenLake 8x8",
    )


def train(options: argparse.Namespace, seed: int) -> History:
    algorithm = ppo_config(options, seed).build_algo()
    progress = Progress(options.steps, f"seed {seed}")
    steps = 0
    while steps < options.steps:
        result = algorithm.train()
        steps = int(result["num_env_steps_sampled_lifetime"])
        progress.show(
            steps,
            success=result["env_runners"]["episode_return_mean"],
            inverse_loss=result["learners"][ICM_MODULE_ID]["inverse_loss"],
        )
    algorithm.stop()
    return progress.history


def ppo_config(options: argparse.Namespace, seed: int) -> PPOConfig:
    policy = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[64]))
    icm = RLModuleSpec(
        module_class=ICMRLModule, learner_only=True, model_config={"feature_size": 32}
    )
    specs = {DEFAULT_MODULE_ID: policy, ICM_MODULE_ID: icm}
    num_shares = max(1, options.num_learners)  # of each batch
    return (
        PPOConfig()
        .environment("frozen_lake")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .learners(
            num_learners=options.num_learners,
            learner_class=PPOTorchLearnerWithCuriosity,
            learner_config_dict={
                "intrinsic_reward_coeff": options.curiosity,
                # RLlib's learner requires this key. Our module uses `beta` instead.
                "forward_loss_weight": None,
            },
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .training(
            train_batch_size_per_learner=BATCH_SIZE // num_shares,
            minibatch_size=MINIBATCH_SIZE // num_shares,
            num_epochs=6,
            lr=[[0, 2e-3], [options.steps, 0.0]],
            gamma=0.9,
            lambda_=0.95,
            clip_param=0.2,
            entropy_coeff=0.02,
            vf_loss_coeff=0.5,
            use_kl_loss=False,
            grad_clip=0.5,
        )
        .debugging(seed=seed)
    )


def frozen_lake(env_config: dict) -> gym.Env:
    env = gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False, max_episode_steps=16)
    return gym.wrappers.DtypeObservation(gym.wrappers.FlattenObservation(env), np.float32)


if __name__ == "__main__":
    main()
