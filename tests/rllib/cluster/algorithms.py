"""RLlib's algorithms with tiny settings, each with two auxiliary modules of one size."""

import gymnasium as gym
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib.cluster.training import all_learners, running
from self_supervised_loss import Learner
from self_supervised_loss.rllib import AuxiliaryModules, add_next_obs

ONLINE = {
    "PPO": PPOConfig().training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=2),
    "DQN": DQNConfig().training(
        train_batch_size_per_learner=32, num_steps_sampled_before_learning_starts=32
    ),
    "IMPALA": IMPALAConfig().training(train_batch_size_per_learner=100),
    "APPO": APPOConfig().training(
        train_batch_size_per_learner=100, circular_buffer_iterations_per_batch=1
    ),
    "SAC": SACConfig().training(
        train_batch_size_per_learner=32, num_steps_sampled_before_learning_starts=32
    ),
    "TQC": TQCConfig().training(
        train_batch_size_per_learner=32, num_steps_sampled_before_learning_starts=32
    ),
}
OFFLINE = {
    "BC": BCConfig().training(train_batch_size_per_learner=32),
    "MARWIL": MARWILConfig().training(train_batch_size_per_learner=32),
    "IQL": IQLConfig().training(train_batch_size_per_learner=32),
    "CQL": CQLConfig().training(train_batch_size_per_learner=32, lr=None),
}
WITHOUT_NEXT_OBS = ("PPO", "APPO", "IMPALA", "BC", "MARWIL")
WITH_CRITIC = ("SAC", "TQC", "IQL", "CQL")
AUXILIARY = ("rnd", "other_rnd")


def algorithm_config(name, *, num_learners=0, recorded=None):
    """Returns the configuration of an algorithm that compares what it trains with our `Learner`."""
    env = "Pendulum-v1" if name in WITH_CRITIC else "CartPole-v1"
    config = (
        {**ONLINE, **OFFLINE}[name]
        .copy(copy_frozen=False)
        .environment(env)
        .env_runners(num_env_runners=0)
    )
    if name in OFFLINE:
        spaces = gym.make(env)
        config.environment(
            observation_space=spaces.observation_space, action_space=spaces.action_space
        )
        config.offline_data(
            input_=[str(recorded / env)],
            input_read_episodes=True,
            dataset_num_iters_per_learner=2,
            map_batches_kwargs={"concurrency": 1},
        )
    specs = {
        DEFAULT_MODULE_ID: RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[16])),
    }
    for module_id in AUXILIARY:
        specs[module_id] = RLModuleSpec(
            module_class=RNDRLModule, learner_only=True, model_config={"hidden_size": 16}
        )
    return (
        config.learners(
            num_learners=num_learners,
            # IMPALA passes a learner over that has more in flight, and the others wait for its
            # gradients for ever.
            max_requests_in_flight_per_learner=1000,
            learner_class=type(
                "ComparedLearner",
                (Compared, AuxiliaryModules, config.get_default_learner_class()),
                {},
            ),
            learner_connector=add_next_obs if name in WITHOUT_NEXT_OBS else None,
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
        .debugging(seed=0)
    )


def record(env, directory):
    """Lets RLlib record whole episodes of a policy that has learnt nothing. This needs `msgpack-
    numpy`."""
    config = (
        PPOConfig()
        .environment(env)
        .env_runners(num_env_runners=0, batch_mode="complete_episodes", rollout_fragment_length=400)
        .offline_data(output=str(directory), output_write_episodes=True)
    )
    with running(config.build_algo()) as algorithm:
        algorithm.env_runner.sample()


class Compared:
    """Mixed into a learner of RLlib's: compares each minibatch with our `Learner`, bit by bit."""

    def compute_losses(self, *, fwd_out, batch):
        losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
        modules = {module_id: self.module[module_id].unwrapped() for module_id in AUXILIARY}
        data = {module_id: self.data_for_module(module_id, batch) for module_id in AUXILIARY}
        outputs = {
            module_id: modules[module_id].forward_train(data[module_id]) for module_id in data
        }
        ours = Learner(module=modules, config=self.config).compute_losses(
            fwd_out=outputs, batch=data
        )
        self.num_different = sum(
            not torch.equal(losses[module_id], ours[module_id]) for module_id in AUXILIARY
        )
        self.params = [
            p for module in modules.values() for p in module.parameters() if p.requires_grad
        ]
        self.our_gradients = torch.autograd.grad(sum(ours.values()), self.params)
        return losses

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        for param, ours in zip(self.params, self.our_gradients, strict=True):
            if self.config.num_learners > 1:
                ours = ours / self.config.num_learners
                torch.distributed.all_reduce(ours)
            self.num_different += not torch.equal(gradients[self.get_param_ref(param)], ours)
        # Logged and not raised: IMPALA's algorithm would wait for a learner thread that has failed.
        self.metrics.log_dict(
            {"num_compared": 1, "num_different": self.num_different}, key="rnd", reduce="sum"
        )
        return gradients


def train_until_compared(algorithm):
    """Trains until the modules have been updated, and returns what arrived of "rnd".

    Asynchronous algorithms take their time.
    """
    while True:
        of_module = algorithm.train().get("learners", {}).get("rnd", {})
        if "num_compared" in of_module:
            return of_module


def equal_weights(algorithm):
    """Returns the weights of the auxiliary modules, as soon as all learners have the same."""
    while True:
        weights, *others = all_learners(algorithm, auxiliary_weights)
        if all(torch.equal(other[name], weights[name]) for other in others for name in weights):
            return weights


def auxiliary_weights(learner):
    return {
        f"{module_id}.{name}": param.detach().clone()
        for module_id in AUXILIARY
        for name, param in learner.module[module_id].unwrapped().named_parameters()
    }
