"""Lightning's Trainer fits a learner that is a LightningModule as well."""

import copy

import torch
from frameworks.shared import PolicyLearner, compute_losses, make_modules, transitions
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

NUM_EPOCHS = 2


class ImitationWithCuriosity(PolicyLearner, LightningModule):
    def __init__(self):
        super().__init__(module=make_modules())

    def compute_loss(self, batch):
        return torch.stack([*compute_losses(self, batch).values()]).sum()

    def training_step(self, batch, batch_idx):
        loss = self.compute_loss(batch)
        self.log_dict(self.metrics.reduce(sep="/"))
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_takes_the_steps_of_a_loop_by_hand_and_gets_the_metrics(tmp_path):
    learner = ImitationWithCuriosity()
    batches = DataLoader([transitions(8) for _ in range(4)], batch_size=None)
    before, by_hand = copy.deepcopy(learner.state_dict()), copy.deepcopy(learner)
    optimizer = by_hand.configure_optimizers()
    for batch in [*batches] * NUM_EPOCHS:
        optimizer.zero_grad()
        by_hand.compute_loss(batch).backward()
        optimizer.step()

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=NUM_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(learner, batches)

    trained = learner.state_dict()
    torch.testing.assert_close(trained, by_hand.state_dict(), rtol=0, atol=0)
    assert not any(torch.equal(trained[name], before[name]) for name in before)
    logged = {"policy/loss", "icm/forward_loss", "icm/inverse_loss"}
    assert trainer.callback_metrics.keys() == logged
    assert trainer.callback_metrics["icm/forward_loss"] > 0
