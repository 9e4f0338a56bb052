"""RLlib's algorithms with tiny settings, each with Random Network Distillation beside the policy."""

import signal
from contextlib import contextmanager

import gymnasium as gym
import torch
from modules.rllib_learners import ModulesBeside, ModulesBesideCritic, add_next_obs
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

from rllib.training import all_learners, running
from self_supervised_loss import Learner

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


def algorithm_config(name, *, num_learners=0, recorded=None):
    """Returns the configuration of an algorithm that trains the module "rnd" and compares it with
    our `Learner`."""
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
    beside = ModulesBesideCritic if name in WITH_CRITIC else ModulesBeside
    specs = {
        DEFAULT_MODULE_ID: RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[16])),
        "rnd": RLModuleSpec(
            module_class=RNDRLModule, learner_only=True, model_config={"hidden_size": 16}
        ),
    }
    return (
        config.learners(
            num_learners=num_learners,
            # IMPALA passes a learner over that has more in flight, and the others wait for its
            # gradients for ever.
            max_requests_in_flight_per_learner=1000,
            learner_class=type(
                "ComparedLearner", (Compared, beside, config.get_default_learner_class()), {}
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
    """Mixed into a learner of RLlib's: compares "rnd" in each minibatch with our `Learner`, bit by
    bit."""

    def compute_losses(self, *, fwd_out, batch):
        losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
        module = self.module["rnd"].unwrapped()
        data = self.data_beside("rnd", batch)
        ours = Learner(module={"rnd": module}, config=self.config).compute_losses(
            fwd_out={"rnd": module.forward_train(data)}, batch={"rnd": data}
        )
        self.same_loss = torch.equal(losses["rnd"], ours["rnd"])
        self.params = [param for param in module.parameters() if param.requires_grad]
        self.our_gradients = torch.autograd.grad(ours["rnd"], self.params)
        return losses

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        same = self.same_loss
        for param, ours in zip(self.params, self.our_gradients, strict=True):
            if self.config.num_learners > 1:
                ours = ours / self.config.num_learners
                torch.distributed.all_reduce(ours)
            same &= torch.equal(gradients[self.get_param_ref(param)], ours)
        # Logged and not raised: IMPALA's algorithm would wait for a learner thread that has failed.
        self.metrics.log_dict(
            {"num_compared": 1, "num_different": not same}, key="rnd", reduce="sum"
        )
        return gradients


def train_until_compared(algorithm):
    """Trains until "rnd" has been updated, and returns what arrived of it. Asynchronous algorithms
    take their time."""
    while True:
        of_module = algorithm.train().get("learners", {}).get("rnd", {})
        if "num_compared" in of_module:
            return of_module


@contextmanager
def time_limit(seconds):
    """Raises an error even out of `algorithm.train()`, which waits for ever for a learner thread
    that has failed."""

    def fail(signal_number, frame):
        raise TimeoutError(f"RLlib did not answer within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def equal_weights(algorithm):
    """Returns the weights of "rnd", as soon as all learners have the same."""
    while True:
        weights, *others = all_learners(algorithm, weights_of_rnd)
        if all(torch.equal(other[name], weights[name]) for other in others for name in weights):
            return weights


def weights_of_rnd(learner):
    return {
        name: param.detach().clone()
        for name, param in learner.module["rnd"].unwrapped().named_parameters()
    }
