"""RLlib's learners without Ray's processes, with tiny modules and random data."""

from importlib import import_module

import gymnasium as gym
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules

POLICIES = ("p0", "p1")
SAC_FAMILY = ["SAC", "TQC", "IQL", "CQL"]
SPACES = {
    "observation_space": gym.spaces.Box(-1, 1, (3,)),
    "action_space": gym.spaces.Box(-1, 1, (1,)),
}


def config_of(algorithm):
    """Returns RLlib's default configuration of an algorithm, such as `"PPO"`."""
    module = import_module(f"ray.rllib.algorithms.{algorithm.lower()}")
    return getattr(module, f"{algorithm}Config")()


def auxiliary_spec(module_class=RNDRLModule, **model_config):
    return RLModuleSpec(
        module_class=module_class, model_config=model_config, learner_only=True, **SPACES
    )


def policy_spec(config, *mix_ins):
    default = config.get_default_rl_module_spec()
    return RLModuleSpec(
        module_class=type("PolicyOfTest", (*mix_ins, default.module_class), {}),
        catalog_class=default.catalog_class,
        model_config=config.model_config | vars(DefaultModelConfig(fcnet_hiddens=[8])),
        **SPACES,
    )


def built(
    config, specs, mix_in=AuxiliaryModules, policies=(DEFAULT_MODULE_ID,), multi_rl_module=None
):
    """Builds a learner of these modules and of RLlib's default policies."""
    if DEFAULT_MODULE_ID not in policies:
        config.multi_agent(policies={*policies}, policy_mapping_fn=lambda *_, **__: policies[0])
    learner_class = type("LearnerOfTest", (mix_in, config.get_default_learner_class()), {})
    specs = MultiRLModuleSpec(
        multi_rl_module_class=multi_rl_module or MultiRLModule,
        rl_module_specs={policy: policy_spec(config) for policy in policies} | specs,
    )
    learner = learner_class(config=config, module_spec=specs)
    learner.build()
    return learner


def update(learner, policies=(DEFAULT_MODULE_ID,)):
    """Trains a learner once on random data of the policies."""
    batches = {policy: transitions() for policy in policies}
    return learner.update(batch=MultiAgentBatch(batches, env_steps=8))


def is_trained(learner, module_id="rnd", policies=(DEFAULT_MODULE_ID,)):
    """Trains a learner once. Returns whether a module has other weights than before."""
    module = learner.module[module_id].unwrapped()
    params = [param for param in module.parameters() if param.requires_grad]
    before = [param.detach().clone() for param in params]
    update(learner, policies)
    changed = {not torch.equal(old, new) for old, new in zip(before, params, strict=True)}
    assert len(changed) == 1  # all parameters, or none
    return changed.pop()


def transitions():
    """Returns the columns that the losses of PPO and of the SAC family need."""
    vectors = {"obs": 3, "new_obs": 3, "actions": 1, "action_dist_inputs": 2}
    numbers = ("rewards", "weights", "n_step", "action_logp", "advantages", "value_targets")
    columns = {name: torch.rand(8, size) for name, size in vectors.items()}
    columns |= {name: torch.ones(8) for name in numbers}
    return SampleBatch(columns | {"terminateds": torch.zeros(8, dtype=torch.bool)})


class LearnsFromFirst(AuxiliaryModules):
    """Auxiliary modules learn from the policy p0, and from nothing if it has no data."""

    def data_for_module(self, module_id, batch):
        return batch.get("p0")


class Decoder(TorchRLModule, SelfSupervisedLossAPI):
    """Reconstructs observations from the features of encoders that it shares with policies."""

    def setup(self):
        self.head = nn.Linear(8, 3)

    def _forward_train(self, batch, **kwargs):
        encoded = [encoder({"obs": batch["obs"]})["encoder_out"] for encoder in self.encoders]
        return {"reconstruction": self.head(sum(encoded, torch.ones(8)))}

    def compute_self_supervised_loss(self, *, batch, fwd_out, **kwargs):
        return (fwd_out["reconstruction"] - batch["obs"]).square().mean()


class SharedEncoders(MultiRLModule):
    """Gives decoders the encoders of the first policy, and the head, that their specs name."""

    def setup(self):
        super().setup()
        policy = next(module for module in self.values() if not isinstance(module, Decoder))
        for module_id, decoder in self.items():
            if isinstance(decoder, Decoder):
                config = decoder.model_config
                decoder.head = self[config.get("head_of", module_id)].head
                decoder.encoders = nn.ModuleList(map(policy.get_submodule, config["encoders"]))


class ExpectsGradients(AuxiliaryModules):
    """Compares the gradients of auxiliary modules with those of the sum of all losses."""

    def expected_loss(self, loss_per_module):
        return sum(loss_per_module.values())

    def compute_gradients(self, loss_per_module, **kwargs):
        self.params = [
            param
            for module_id in sorted(self.module.keys() - self.config.policies)
            for param in self.module[module_id].unwrapped().parameters()
            if param.requires_grad
        ]
        loss = self.expected_loss(loss_per_module)
        self.expected = [*torch.autograd.grad(loss, self.params, retain_graph=True)]
        self.gradients = super().compute_gradients(loss_per_module, **kwargs)
        return self.gradients

    def has_expected_gradients(self):
        """Returns whether all gradients are the expected ones, averaged over the learners."""
        for gradient in self.expected if self.distributed else ():
            gradient /= self.config.num_learners
            torch.distributed.all_reduce(gradient)
        gradients = [self.gradients[param] for param in self.params]
        return len(gradients) > 0 and all(map(torch.equal, gradients, self.expected))
