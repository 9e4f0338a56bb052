"""In each of RLlib's algorithms, auxiliary modules learn as they do with our `Learner`."""

import math

import gymnasium as gym
import pytest
import ray
import torch
from modules.rnd_rl_module import RNDRLModule
from ray import tune
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner

from rllib.cluster.training import (
    OFFLINE,
    ONLINE,
    changed,
    equal_weights,
    running,
    tiny_config,
    train_until_logged,
)
from rllib.learners import SAC_FAMILY, ExpectsGradients, config_of
from self_supervised_loss import Learner
from self_supervised_loss.rllib import AuxiliaryModulesOffline, add_next_obs

WITHOUT_NEXT_OBS = ["PPO", "APPO", "IMPALA"]
ON_TWO_LEARNERS = ["PPO", "APPO", "IMPALA", "SAC", "MARWIL"]
AUXILIARY = ("rnd", "other_rnd")


@pytest.fixture(scope="module")
def recorded(cluster, tmp_path_factory):
    """Whole episodes of an untrained policy, recorded by RLlib with `msgpack-numpy`."""
    # Version 2 of Ray Data starts eight processes to read one file.
    ray.data.DataContext.get_current().use_datasource_v2 = False
    directory = str(tmp_path_factory.mktemp("recorded"))
    config = config_of("PPO").environment("Pendulum-v1").env_runners(num_env_runners=0)
    config.env_runners(batch_mode="complete_episodes", rollout_fragment_length=400)
    config.offline_data(output=directory, output_write_episodes=True)
    with running(config.build_algo()) as algorithm:
        algorithm.env_runner.sample()
    return directory


def compared_config(name, recorded):
    """Returns a configuration whose learner compares two auxiliary modules with our `Learner`."""
    config = tiny_config(name, dict.fromkeys(AUXILIARY, RNDRLModule))
    learner_class = type("ComparedLearner", (Compared, config.get_default_learner_class()), {})
    config.learners(
        num_learners=2 if name in ON_TWO_LEARNERS else 0,
        learner_class=learner_class,
        learner_connector=add_next_obs if name in WITHOUT_NEXT_OBS else None,
    )
    env = gym.make("Pendulum-v1" if name in {*SAC_FAMILY, *OFFLINE} else "CartPole-v1")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    config.environment(env.spec.id, **spaces)
    if name in OFFLINE:
        config.offline_data(
            input_=[recorded],
            input_read_episodes=True,
            materialize_data=False,
            materialize_mapped_data=True,  # each pass over the data would start a process
            dataset_num_iters_per_learner=2,
            map_batches_kwargs={"concurrency": 1},
        )
    return config


def losses_of_ours(rllib, batch):
    """Returns the losses that our `Learner` computes for the auxiliary modules of RLlib's."""
    modules = {module_id: rllib.module[module_id].unwrapped() for module_id in AUXILIARY}
    data = {module_id: rllib.data_for_module(module_id, batch) for module_id in AUXILIARY}
    fwd_out = {name: module.forward_train(data[name]) for name, module in modules.items()}
    learner = Learner(module=modules, config=rllib.config)
    return learner.compute_losses(fwd_out=fwd_out, batch=data)


class Compared(ExpectsGradients):
    """Mixed into a learner of RLlib: compares each minibatch with our `Learner`, bit by bit."""

    def compute_losses(self, *, fwd_out, batch):
        losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
        self.ours = losses_of_ours(self, batch)
        self.are_equal = all(torch.equal(losses[name], self.ours[name]) for name in AUXILIARY)
        return losses

    def expected_loss(self, loss_per_module):
        return sum(self.ours.values())

    def compute_gradients(self, loss_per_module, **kwargs):
        gradients = super().compute_gradients(loss_per_module, **kwargs)
        is_different = not (self.are_equal and self.has_expected_gradients())
        counts = {"num_compared": 1, "num_different": int(is_different)}
        self.metrics.log_dict(counts, key="rnd", reduce="sum")
        return gradients


def trained(config):
    """Trains until the learner has compared minibatches. Returns the last results."""
    with running(config.build_algo()) as algorithm:
        before = equal_weights(algorithm, *AUXILIARY)
        results = train_until_logged(algorithm, "rnd", "num_compared")
        after = equal_weights(algorithm, *AUXILIARY)
    learnt = results["learners"]["rnd"]
    assert learnt["num_compared"] > learnt["num_different"] == 0
    assert math.isfinite(learnt["total_loss"]) and math.isfinite(learnt["predictor_loss"])
    assert changed(before, after) == {name for name in before if ".predictor_net." in name} > set()
    return results


@pytest.mark.parametrize("name", [*ONLINE, "MARWIL", "IQL", "CQL"])
def test_auxiliary_modules_learn_as_with_our_learner(name, recorded):
    trained(compared_config(name, recorded))


class ComparedRunner(AuxiliaryModulesOffline, OfflineEvaluationRunner):
    def compute_eval_losses(self, *, fwd_out, batch):
        losses = super().compute_eval_losses(fwd_out=fwd_out, batch=batch)
        ours = losses_of_ours(self, batch)
        assert all(torch.equal(losses[name], ours[name]) for name in AUXILIARY)
        self.metrics.log_value(("rnd", "num_compared"), 1, reduce="sum")
        return losses


def test_auxiliary_modules_learn_and_are_evaluated_with_bc(recorded):
    config = compared_config("BC", recorded).evaluation(
        offline_evaluation_interval=1,
        offline_eval_batch_size_per_runner=32,
        offline_eval_runner_class=ComparedRunner,
    )
    evaluated = trained(config)["evaluation"]["offline_eval_runners"]
    assert evaluated["rnd"]["num_compared"] > 0
    assert 0 < evaluated["rnd"]["total_eval_loss"] < float("inf")
    assert "total_eval_loss" in evaluated[DEFAULT_MODULE_ID]


def test_tune_trains_auxiliary_modules(recorded, tmp_path):
    config = compared_config("PPO", recorded).learners(num_learners=0)
    run_config = tune.RunConfig(
        stop={"training_iteration": 1}, storage_path=str(tmp_path), verbose=0
    )
    [result] = tune.Tuner(config.algo_class, param_space=config, run_config=run_config).fit()
    assert not result.error
    assert result.metrics["learners"]["rnd"]["num_compared"] > 0
