"""The recipes in `examples/README.md` do what the page says, in two processes with DDP."""

import copy
import os
import sys
import tempfile

import pytest
import torch
from processes import process_group, run_in_two_processes
from test_readme import EXAMPLES, blocks, run
from torch import distributed, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner, SelfSupervisedLossAPI


def test_recipes_do_what_the_page_says(tmp_path):
    run_in_two_processes(__file__, tmp_path)


def run_recipes():
    torch.manual_seed(distributed.get_rank())  # so each process has its own data
    program = {"__name__": "__main__"}
    unchecked = {**CHECKS}
    for block in blocks(EXAMPLES, "python"):
        if "import jax" in block.content:
            break
        run(block, EXAMPLES, program)
        for code in [code for code in unchecked if code in block.content]:
            unchecked.pop(code)(program, block.content)
    assert not unchecked


def check_target_network(program, _):
    module = program["WithTarget"]().train()
    state = copy.deepcopy(module.target.state_dict())
    new_obs = torch.randn(8, 4, requires_grad=True)
    assert not module({"obs": torch.randn(8, 4), "new_obs": new_obs})["targets"].requires_grad
    torch.testing.assert_close(module.target.state_dict(), state)
    nn.init.ones_(module.net[0].weight)
    module.update_target(tau=1.0)
    torch.testing.assert_close(module.target.state_dict(), module.net.state_dict())


def check_accumulation(program, _):
    rnd, whole = program["rnd"], program["whole"]
    losses = program["learner"].compute_losses(fwd_out={"rnd": rnd(whole)}, batch={"rnd": whole})
    torch.testing.assert_close(program["mean"].float(), losses["rnd"])
    parameters = [*rnd.predictor_net.parameters()]
    gradients = torch.autograd.grad(losses["rnd"], parameters)
    torch.testing.assert_close([parameter.grad for parameter in parameters], [*gradients])


def check_averages_by_name(_, code):
    """Processes may log other names, and in another order."""
    rank = distributed.get_rank()
    learner = Learner(module={})
    for name, mean in [("one", 1), ("hundred", 100)][:: 1 if rank else -1]:
        learner.metrics.log_value(name, mean + rank - 0.5)
    learner.metrics.log_value(f"only in {rank}", rank)
    program = {"learner": learner}
    exec(code[: code.index("parallel =")] + code[code.index("logged =") :], program)
    assert program["means"] == {"one": 1, "hundred": 100, "only in 0": 0, "only in 1": 1}


def check_gradients(*trained):
    """Returns a check that the gradients of the trained modules were summed and averaged."""

    def check(program, _):
        modules, batch = program["modules"], program["batch"]
        learner = program["PolicyGradient"](module=modules)
        losses = [
            learner.compute_losses(fwd_out=program["forward"](names), batch=batch)
            for names in trained
        ]
        require_gradients(modules, sum(loss for each in losses for loss in each.values()))

    return check


def check_contrastive(program, _):
    net = program["contrastive"].module.net
    columns = program["columns"]
    queries, keys = (
        net(torch.cat(of_both_processes(columns[name]))) for name in ("obs", "new_obs")
    )
    require_gradients(net, F.cross_entropy(queries @ keys.T, torch.arange(len(keys))))


def check_number_of_graphs(*_):
    assert counters["stats"]["unique_graphs"] == 4


CHECKS = {
    "class WithTarget": check_target_network,
    "num_valid": check_accumulation,
    "all_gather_object": check_averages_by_name,
    "DDP averages": check_gradients(["policy", "representation", "rnd"]),
    "class Model": check_gradients(["policy", "rnd"]),
    "no_sync": check_gradients(["policy", "rnd"], ["policy", "rnd"], ["policy"]),
    "class Contrastive": check_contrastive,
    "fullgraph": check_number_of_graphs,
}


def require_gradients(module, loss):
    """Requires that the gradients are those of the loss, averaged over both processes."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, sum(of_both_processes(gradient)) / 2)


def of_both_processes(tensor):
    tensors = [torch.empty_like(tensor) for _ in range(2)]
    distributed.all_gather(tensors, tensor.contiguous())
    return tensors


class LossUsesParameters(nn.Module, SelfSupervisedLossAPI):
    """Uses one layer in the loss method only, and the other one there again."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, obs):
        return self.body(obs)

    def compute_self_supervised_loss(self, *, batch, fwd_out, **kwargs):
        return self.head(fwd_out).square().mean() + self.head(self.body(batch)).mean()


def check_rules_of_ddp():
    """Checks the three rules below the recipe for DDP."""
    obs = torch.randn(8, 4)

    def loss_of(module, fwd_out):
        learner = Learner(module={"m": module})
        return learner.compute_losses(fwd_out={"m": fwd_out}, batch={"m": obs})["m"]

    module = LossUsesParameters()
    wrapper = DistributedDataParallel(module)
    loss_of(wrapper, wrapper(obs)).backward()
    require_gradients(module, loss_of(module, module(obs)))

    module.zero_grad()
    loss_of(wrapper, module(obs)).backward()
    with pytest.raises(AssertionError, match="not close"):
        require_gradients(module, loss_of(module, module(obs)))

    wrapper = DistributedDataParallel(LossUsesParameters(), find_unused_parameters=True)
    with pytest.raises(RuntimeError, match="Expected to mark a variable ready only once"):
        loss_of(wrapper, wrapper(obs)).backward()


if __name__ == "__main__":
    with process_group():
        os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))  # a recipe saves a file
        run_recipes()
        check_rules_of_ddp()
