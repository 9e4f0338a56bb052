"""Computes losses of modules in torch or Flax and trains them. Batches are NumPy arrays."""

import jax.numpy as jnp
import optax
import torch
from flax import nnx
from torch import nn

from self_supervised_loss import Learner


def data_for(module, batch):
    """Converts a batch to the module's framework."""
    convert = torch.as_tensor if isinstance(module, nn.Module) else jnp.asarray
    return {name: convert(column) for name, column in batch.items()}


def loss_and_metrics(module, data):
    learner = Learner(module={"m": module})
    losses = learner.compute_losses(fwd_out={"m": module(data)}, batch={"m": data})
    return losses["m"], learner.metrics.reduce()["m"]


def train(module, batches, *, lr):
    """Trains with weight decay, which also changes trainable weights without a gradient."""
    (_train_torch if isinstance(module, nn.Module) else _train_flax)(module, batches, lr)


def _train_torch(module, batches, lr):
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.01)
    for batch in batches:
        loss, _ = loss_and_metrics(module, data_for(module, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if hasattr(module, "update_target"):
            module.update_target()


def _train_flax(module, batches, lr):
    optimizer = nnx.Optimizer(module, optax.adamw(lr, weight_decay=0.01), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer, batch):
        gradients, _ = nnx.grad(loss_and_metrics, has_aux=True)(module, batch)
        optimizer.update(module, gradients)

    for batch in batches:
        step(module, optimizer, batch)
