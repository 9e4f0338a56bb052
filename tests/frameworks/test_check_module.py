"""`check_module` on modules of several frameworks, without importing any."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


def transitions() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"obs": torch.randn(8, 4), "new_obs": torch.randn(8, 4), "actions": torch.randint(3, (8,))}


def violations_of(module: Any, batch: dict[str, Any], fwd_out: dict[str, Any]) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        check_module(module, batch=batch, fwd_out=fwd_out)
    return str(raised.value).splitlines()[1:]


@pytest.mark.parametrize("wrap", [lambda icm: icm, lambda icm: torch.compile(icm, backend="eager")])
def test_a_torch_module_passes(wrap: Any) -> None:
    module, batch = wrap(ICM(4, 3)), transitions()
    loss = check_module(module, batch=batch, fwd_out=module(batch))
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_jax_module_passes() -> None:
    module = LatentWorldModel(4, 3, rngs=nnx.Rngs(0))
    batch = {column: jax.numpy.asarray(tensor.numpy()) for column, tensor in transitions().items()}
    assert check_module(module, batch=batch, fwd_out=module(batch)).shape == ()


class NumPyModule(SelfSupervisedLossAPI[np.float64]):
    def compute_self_supervised_loss(
        self, *, learner: Any, module_id: str, batch: dict[str, Any], fwd_out: dict[str, Any], **kwargs: Any
    ) -> np.float64:
        learner.metrics.log_value((module_id, "largest_error"), abs(fwd_out["p"] - batch["obs"]).max())
        return ((fwd_out["p"] - batch["obs"]) ** 2).mean()


def test_a_numpy_module_passes() -> None:
    assert check_module(NumPyModule(), batch={"obs": np.zeros(3)}, fwd_out={"p": np.full(3, 2.0)}) == 4.0


def test_an_array_with_one_element_is_no_scalar() -> None:
    class Unreduced(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, learner: Any, fwd_out: dict[str, Any], **kwargs: Any) -> Any:
            learner.metrics.log_value("loss", fwd_out["p"])
            return fwd_out["p"]

    for one_element in (np.zeros(1), torch.zeros(1), jax.numpy.zeros(1)):
        logged, returned = violations_of(Unreduced(), {}, {"p": one_element})
        assert "the value logged as ('loss',) has shape (1,), not ()." in logged
        assert "the loss has shape (1,), not (). Return one scalar" in returned


def test_a_loss_that_is_cut_off_from_the_parameters() -> None:
    class CutOff(ICM):
        def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
            return super().compute_self_supervised_loss(**arguments).detach()

    module, batch = CutOff(4, 3), transitions()
    (violation,) = violations_of(module, batch, module(batch))
    assert "the loss has no grad_fn, so that nothing would be learnt. Make fwd_out with gradients" in violation


def test_a_loss_that_is_a_number_of_a_module_with_parameters() -> None:
    class Item(ICM):
        def compute_self_supervised_loss(self, **arguments: Any) -> Any:
            return super().compute_self_supervised_loss(**arguments).item()

    module, batch = Item(4, 3), transitions()
    (violation,) = violations_of(module, batch, module(batch))
    assert "the loss has no grad_fn" in violation


def test_a_loss_that_is_not_reduced_and_cut_off_is_told_both() -> None:
    class Unreduced(nn.Linear, SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, fwd_out: dict[str, Any], **kwargs: Any) -> torch.Tensor:
            return fwd_out["p"].detach()

    module = Unreduced(4, 1)
    fault, cut_off = violations_of(module, {}, {"p": module(torch.ones(2, 4))})
    assert "the loss has shape (2, 1), not ()" in fault
    assert "the loss has no grad_fn" in cut_off


def test_a_loss_that_is_none_is_not_blamed_for_its_graph_as_well() -> None:
    class Forgets(ICM):
        def compute_self_supervised_loss(self, **arguments: Any) -> Any:
            super().compute_self_supervised_loss(**arguments)

    module, batch = Forgets(4, 3), transitions()
    (violation,) = violations_of(module, batch, module(batch))
    assert "the loss is None. Return one scalar" in violation


def test_a_distribution_that_computes_what_it_is_asked_for_is_left_alone() -> None:
    class ReadsProbabilities(nn.Linear, SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, fwd_out: dict[str, Any], **kwargs: Any) -> torch.Tensor:
            return fwd_out["action_dist"].probs.square().mean()

    module = ReadsProbabilities(4, 3)
    fwd_out = {"action_dist": torch.distributions.Categorical(logits=module(torch.ones(2, 4)))}
    check_module(module, batch={}, fwd_out=fwd_out)


def test_an_output_made_without_gradients() -> None:
    class FromOutput(nn.Linear, SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, fwd_out: dict[str, Any], **kwargs: Any) -> torch.Tensor:
            return fwd_out["p"].mean()

    module = FromOutput(4, 1)
    with torch.no_grad():
        fwd_out = {"p": module(torch.ones(2, 4))}
    (violation,) = violations_of(module, {}, fwd_out)
    assert "the loss has no grad_fn" in violation


def test_a_frozen_module_needs_no_gradient() -> None:
    module, batch = ICM(4, 3).requires_grad_(requires_grad=False), transitions()
    assert not check_module(module, batch=batch, fwd_out=module(batch)).requires_grad


@pytest.mark.parametrize("array", [np.ones(3), torch.ones(3)], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_a_change_in_place(name: str, array: Any) -> None:
    class Normalises(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **inputs: Any) -> float:
            inputs[name]["rewards"][0] *= 2
            return 1.0

    inputs: dict[str, dict[str, Any]] = {"batch": {}, "fwd_out": {}, name: {"rewards": array}}
    (violation,) = violations_of(Normalises(), **inputs)
    assert f"{name}['rewards'] was changed in place. Leave the input as it is" in violation


def test_an_output_that_is_detached_in_the_dict() -> None:
    class Detaches(ICM):
        def compute_self_supervised_loss(self, *, fwd_out: dict[str, Any], **arguments: Any) -> torch.Tensor:
            loss = super().compute_self_supervised_loss(fwd_out=fwd_out, **arguments)
            fwd_out["intrinsic_rewards"] = fwd_out["intrinsic_rewards"].detach()
            return loss

    module, batch = Detaches(4, 3), transitions()
    (violation,) = violations_of(module, batch, module(batch))
    assert "fwd_out['intrinsic_rewards'] was added, replaced or removed" in violation


def test_dropout_in_the_loss_is_a_hint() -> None:
    class Drops(nn.Linear, SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, batch: dict[str, Any], **kwargs: Any) -> torch.Tensor:
            return nn.functional.dropout(self(batch["obs"])).sum()

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="the loss of Drops was .* and then .* on the same input"):
        check_module(Drops(4, 50), batch=transitions(), fwd_out={})
