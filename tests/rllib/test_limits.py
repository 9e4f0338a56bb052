"""Learners of RLlib that cannot hold a module with its own loss, or never call its loss method."""

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.differentiable_learner_config import DifferentiableLearnerConfig
from ray.rllib.core.learner.torch.torch_differentiable_learner import TorchDifferentiableLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

from rllib.learners import (
    SAC_FAMILY,
    auxiliary_spec,
    built,
    config_of,
    is_trained,
    policy_spec,
    update,
)
from self_supervised_loss import SelfSupervisedLossAPI


def test_without_the_mix_in_ppo_silently_trains_no_auxiliary_module():
    class NoMixIn: ...

    learner = built(config_of("PPO"), {"rnd": auxiliary_spec()}, NoMixIn)
    assert not is_trained(learner, "rnd")
    learnt = update(learner)
    assert "total_loss" in learnt[DEFAULT_MODULE_ID]
    assert "total_loss" not in learnt["rnd"]


MISSING = {"SAC": "qf_encoder", "TQC": "qf_encoders", "IQL": "qf_encoder", "CQL": "qf_encoder"}


@pytest.mark.parametrize(("name", "missing"), [*MISSING.items(), ("DreamerV3", "world_model")])
def test_without_the_mix_in_some_learners_treat_each_module_as_a_policy(name, missing):
    config = config_of(name)
    spec = MultiRLModuleSpec(rl_module_specs={"rnd": auxiliary_spec()})
    learner = config.get_default_learner_class()(config=config, module_spec=spec)
    with pytest.raises(AttributeError, match=f"'RNDRLModule' object has no attribute '{missing}'"):
        learner.build()


def test_a_differentiable_learner_never_calls_the_loss_method():
    class DifferentiableLearner(TorchDifferentiableLearner):
        def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
            return "the learner's"

    learner = DifferentiableLearner(
        config=DifferentiableAlgorithmConfig(),
        learner_config=DifferentiableLearnerConfig(learner_class=DifferentiableLearner),
        module=MultiRLModuleSpec(rl_module_specs={"rnd": auxiliary_spec()}).build(),
    )
    losses = learner.compute_losses(fwd_out={"rnd": {}}, batch={"rnd": {}})
    assert losses == {"rnd": "the learner's"}


class Regularized(SelfSupervisedLossAPI[torch.Tensor]):
    """Mixed into a policy: adds a term to the loss of the learner."""

    def compute_self_supervised_loss(self, *, learner, batch, fwd_out, **kwargs):
        loss = learner.compute_loss_for_module(batch=batch, fwd_out=fwd_out, **kwargs)
        self.term = sum(parameter.square().sum() for parameter in self.parameters())
        self.term.retain_grad()
        return loss + self.term


@pytest.mark.parametrize("algorithm", ["PPO", *SAC_FAMILY])
def test_the_sac_family_ignores_a_term_that_a_policy_adds_and_ppo_does_not(algorithm):
    config = config_of(algorithm)
    learner = built(config, {DEFAULT_MODULE_ID: policy_spec(config, Regularized)})
    update(learner)
    has_gradient = learner.module[DEFAULT_MODULE_ID].term.grad is not None
    assert has_gradient == (algorithm == "PPO")


def test_with_three_steps_the_next_observation_is_three_steps_ahead():
    times = [np.full(3, time, np.float32) for time in range(21)]
    episode = SingleAgentEpisode(
        observations=times, actions=times[:20], rewards=[0.0] * 20, len_lookback_buffer=0
    )
    buffer = EpisodeReplayBuffer(capacity=20)
    buffer.add(episode)
    for sampled in buffer.sample(num_items=8, n_step=3, sample_episodes=True):
        obs, new_obs = sampled.get_observations()
        assert (sampled.get_actions()[0] == obs).all()
        assert (new_obs == (obs + 3).clip(max=20)).all()  # the episode ends at 20
