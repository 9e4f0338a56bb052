"""Data-parallel torch without Ray: two processes, each with half of the batch, take the step of one
with all of it."""

import sys
from functools import partial

import torch
from accelerate import Accelerator
from frameworks.shared import compute_losses, make_modules, transitions
from processes import process_group, run_in_two_processes
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

WRAPPERS = {
    "DistributedDataParallel": DistributedDataParallel,
    "FullyShardedDataParallel": partial(
        FullyShardedDataParallel, device_id=torch.device("cpu"), use_orig_params=True
    ),
    "Accelerate": lambda module: Accelerator(cpu=True).prepare(module),
}


def make_icm():
    return make_modules()["icm"].double()


def make_batch():
    torch.manual_seed(1)
    batch = transitions(32)
    return batch | {name: batch[name].double() for name in ("obs", "new_obs")}


def loss_and_gradients(icm, batch):
    loss = compute_losses(Learner(module={"icm": icm}), batch)["icm"]
    loss.backward()  # here a wrapper averages over the processes
    # This puts shards together, if there are any.
    with FullyShardedDataParallel.summon_full_params(icm, with_grads=True):
        return loss.detach(), [parameter.grad.clone() for parameter in icm.parameters()]


def test_two_processes_average_to_the_gradients_of_one(tmp_path):
    run_in_two_processes(__file__, tmp_path)

    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    loss, gradients = loss_and_gradients(make_icm(), make_batch())
    for wrapper in WRAPPERS:
        first_loss, first_gradients = first[wrapper]
        second_loss, second_gradients = second[wrapper]
        torch.testing.assert_close(first_gradients, second_gradients, rtol=0, atol=0)
        torch.testing.assert_close(first_gradients, gradients)
        torch.testing.assert_close((first_loss + second_loss) / 2, loss)
        assert not torch.equal(first_loss, second_loss)


if __name__ == "__main__":
    with process_group():
        rank = distributed.get_rank()
        half = {column: rows.chunk(2)[rank] for column, rows in make_batch().items()}
        results = {
            name: loss_and_gradients(wrap(make_icm()), half) for name, wrap in WRAPPERS.items()
        }
        torch.save(results, f"{sys.argv[1]}/{rank}.pt")
