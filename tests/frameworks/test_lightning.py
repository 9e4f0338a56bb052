"""Lightning's Trainer fits a learner that is a LightningModule as well."""

import copy

import torch
from frameworks.shared import PolicyLearner, compute_losses, make_modules, transitions
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader


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
    for batch in [*batches] * 2:
        optimizer.zero_grad()
        by_hand.compute_loss(batch).backward()
        optimizer.step()

    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "devices": 1}
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, **options)
    trainer.fit(learner, batches)

    trained = learner.state_dict()
    torch.testing.assert_close(trained, by_hand.state_dict(), rtol=0, atol=0)
    assert not any(torch.equal(trained[name], before[name]) for name in before)
    logged = trainer.callback_metrics
    assert logged.keys() == {"policy/loss", "icm/forward_loss", "icm/inverse_loss"}
    assert logged["icm/forward_loss"] > 0
