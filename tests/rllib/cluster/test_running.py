"""What may happen around the training of a module: evaluation on recorded data, a lost process, a
run by Tune."""

import os
import signal

import pytest
import torch
from ray import tune
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner

from rllib.cluster.algorithms import algorithm_config, equal_weights, train_until_compared
from rllib.cluster.training import WARNINGS_OF_RAY, running
from self_supervised_loss import Learner
from self_supervised_loss.rllib import AuxiliaryModulesOffline

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]


class ComparedRunner(AuxiliaryModulesOffline, OfflineEvaluationRunner):
    """Compares each loss of "rnd" with that of our `Learner`."""

    def compute_eval_losses(self, *, fwd_out, batch):
        losses = super().compute_eval_losses(fwd_out=fwd_out, batch=batch)
        module, data = self.module["rnd"], self.data_for_module("rnd", batch)
        ours = Learner(module=self.module, config=self.config).compute_losses(
            fwd_out={"rnd": module.forward_train(data)}, batch={"rnd": data}
        )
        assert torch.equal(losses["rnd"], ours["rnd"])
        self.metrics.log_value(("rnd", "num_compared"), 1, reduce="sum")
        return losses


def test_offline_evaluation_evaluates_the_module_too(recorded):
    config = algorithm_config("BC", recorded=recorded).evaluation(
        offline_evaluation_interval=1,
        offline_eval_batch_size_per_runner=32,
        offline_eval_runner_class=ComparedRunner,
    )
    with running(config.build_algo()) as algorithm:
        evaluated = algorithm.train()["evaluation"]["offline_eval_runners"]

    assert evaluated["rnd"]["num_compared"] > 0
    assert 0 < evaluated["rnd"]["total_eval_loss"] < float("inf")
    assert "total_eval_loss" in evaluated[DEFAULT_MODULE_ID]


def test_training_goes_on_when_an_env_runner_is_killed():
    config = algorithm_config("PPO").env_runners(num_env_runners=2)
    config.fault_tolerance(restart_failed_env_runners=True)
    with running(config.build_algo()) as algorithm:
        train_until_compared(algorithm)
        before = equal_weights(algorithm)
        victim, other = (pid(algorithm, runner_id) for runner_id in (1, 2))
        os.kill(victim, signal.SIGKILL)

        train_until_compared(algorithm)

        after = equal_weights(algorithm)
        assert any(not torch.equal(before[name], after[name]) for name in before)
        while algorithm.env_runner_group.num_healthy_remote_workers() < 2:
            train_until_compared(algorithm)
        assert pid(algorithm, 1) != victim
        assert pid(algorithm, 2) == other


def pid(algorithm, runner_id):
    return algorithm.env_runner_group.foreach_env_runner(
        lambda runner: os.getpid(), remote_worker_ids=[runner_id], local_env_runner=False
    )[0]


def test_tune_trains_the_module_with_each_learning_rate(tmp_path):
    config = algorithm_config("PPO").training(lr=tune.grid_search([1e-3, 1e-2]))
    results = tune.Tuner(
        config.algo_class,
        param_space=config,
        run_config=tune.RunConfig(
            stop={"training_iteration": 4}, storage_path=str(tmp_path), verbose=0
        ),
    ).fit()

    assert not results.errors
    slow, fast = sorted(results, key=lambda result: result.config["lr"])
    assert slow.metrics["learners"]["rnd"]["num_compared"] > 0
    assert (
        fast.metrics["learners"]["rnd"]["total_loss"]
        < slow.metrics["learners"]["rnd"]["total_loss"]
    )
