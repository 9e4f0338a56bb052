"""Where RLlib by itself cannot hold a module with its own loss, or does not ask it for the loss."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.differentiable_learner_config import DifferentiableLearnerConfig
from ray.rllib.core.learner.torch.torch_differentiable_learner import TorchDifferentiableLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
from torch import distributed

from rllib.learners import SPACES, auxiliary_spec, built, policy_spec, update
from self_supervised_loss import SelfSupervisedLossAPI

BOX = gym.spaces.Box(-1, 1, (4,), np.float32)
RND = RLModuleSpec(
    module_class=RNDRLModule, observation_space=BOX, action_space=BOX, learner_only=True
)


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        (SACConfig(), "qf_encoder"),
        (TQCConfig(), "qf_encoders"),
        (IQLConfig(), "qf_encoder"),
        (CQLConfig(), "qf_encoder"),
    ],
    ids=["SAC", "TQC", "IQL", "CQL"],
)
def test_without_the_mix_in_the_sac_family_takes_each_module_for_a_policy(config, missing):
    assert_that_building_misses(missing, config)


@pytest.mark.filterwarnings(
    "ignore:.*WARN:UserWarning"
)  # it makes environments when it is imported
def test_dreamerv3_takes_each_module_for_one_with_a_world_model():
    from ray.rllib.algorithms.dreamerv3 import DreamerV3Config

    assert_that_building_misses("world_model", DreamerV3Config())


def assert_that_building_misses(attribute, config):
    spec = MultiRLModuleSpec(rl_module_specs={"rnd": RND})
    learner = config.get_default_learner_class()(config=config, module_spec=spec)
    with pytest.raises(
        AttributeError, match=f"'RNDRLModule' object has no attribute '{attribute}'"
    ):
        learner.build()


def test_a_differentiable_learner_as_in_mamls_inner_loop_asks_no_module_for_its_loss():
    class DifferentiableLearner(TorchDifferentiableLearner):
        def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
            return "the learner's"

    module = MultiRLModuleSpec(rl_module_specs={"rnd": RND}).build()
    learner = DifferentiableLearner(
        config=DifferentiableAlgorithmConfig(),
        learner_config=DifferentiableLearnerConfig(learner_class=DifferentiableLearner),
        module=module,
    )
    batch = {"rnd": {"new_obs": torch.randn(8, 4)}}

    losses = learner.compute_losses(fwd_out=module.forward_train(batch), batch=batch)

    assert losses == {"rnd": "the learner's"}


class Regularized(SelfSupervisedLossAPI[torch.Tensor]):
    """Mixed into a policy: adds a term to the loss of the learner, and counts its gradients."""

    num_computed = num_differentiated = 0

    def compute_self_supervised_loss(self, *, learner, batch, fwd_out, **kwargs):
        loss = learner.compute_loss_for_module(batch=batch, fwd_out=fwd_out, **kwargs)
        term = sum(parameter.square().sum() for parameter in self.parameters())
        term.register_hook(self.count_gradient)
        self.num_computed += 1
        return loss + 0.01 * term

    def count_gradient(self, gradient):
        self.num_differentiated += 1


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")  # in the loss of RLlib's TQC
@pytest.mark.parametrize("config_class", [PPOConfig, SACConfig, TQCConfig, IQLConfig, CQLConfig])
def test_the_sac_family_ignores_what_a_policy_adds_to_its_loss_and_ppo_does_not(config_class):
    config = config_class()
    learner = built(config, {DEFAULT_MODULE_ID: policy_spec(config, Regularized)})
    update(learner)
    policy = learner.module[DEFAULT_MODULE_ID]
    assert policy.num_computed == 1
    assert policy.num_differentiated == (config_class is PPOConfig)


def test_with_three_steps_the_next_observation_is_not_that_of_the_action():
    spaces = {"observation_space": SPACES["observation_space"], "action_space": BOX}
    episode = SingleAgentEpisode(
        observations=[np.full(3, t, np.float32) for t in range(21)],
        actions=[np.full(4, t, np.float32) for t in range(20)],
        rewards=[0.0] * 20,
        len_lookback_buffer=0,
        **spaces,
    )
    buffer = EpisodeReplayBuffer(capacity=20, batch_size_B=8)
    buffer.add(episode)
    sampled = buffer.sample(num_items=8, n_step=3, sample_episodes=True, to_numpy=True)

    learner = built(SACConfig(), {})
    batches = learner._learner_connector(rl_module=learner.module, episodes=sampled, shared_data={})
    batch = batches[DEFAULT_MODULE_ID]

    assert (batch["actions"][:, 0] == batch["obs"][:, 0]).all()
    assert (batch["new_obs"] == (batch["obs"] + 3).clip(max=20)).all()  # where the episode ends


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Frozen(RNDRLModule):
    def setup(self):
        super().setup()
        self.requires_grad_(False)


@pytest.mark.usefixtures("process_group")
def test_several_learners_refuse_a_module_with_all_parameters_frozen():
    with pytest.raises(RuntimeError, match="doesn't have any parameter that requires"):
        built(PPOConfig().learners(num_learners=2), {"rnd": auxiliary_spec(Frozen)})
