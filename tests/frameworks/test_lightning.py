"""Lightning's Trainer fits a learner that is a LightningModule as well."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from modules.icm import ICM
from torch import nn
from torch.utils.data import DataLoader

from self_supervised_loss import Learner

OBS_SIZE, NUM_ACTIONS, BATCH_SIZE, NUM_EPOCHS = 4, 3, 8, 2

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    # Lightning 2.6 makes use of what torch 2.13 is going to change.
    pytest.mark.filterwarnings(
        "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"
    ),
]


class Policy(nn.Linear):
    """Brings no loss."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": super().forward(batch["obs"])}


class ImitationWithCuriosity(Learner[torch.Tensor], LightningModule):
    def __init__(self) -> None:
        super().__init__(
            module=nn.ModuleDict(
                {"policy": Policy(OBS_SIZE, NUM_ACTIONS), "icm": ICM(OBS_SIZE, NUM_ACTIONS)}
            )
        )

    def compute_loss_for_module(
        self, *, batch: dict[str, Any], fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        return nn.functional.cross_entropy(fwd_out["logits"], batch["actions"])

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        fwd_out = {module_id: module(batch) for module_id, module in self.module.items()}
        losses = self.compute_losses(fwd_out=fwd_out, batch=dict.fromkeys(fwd_out, batch))
        self.log_dict(self.metrics.reduce(sep="/"))
        return torch.stack([*losses.values()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def learner() -> ImitationWithCuriosity:
    torch.manual_seed(0)
    return ImitationWithCuriosity()


@pytest.fixture
def batches() -> DataLoader[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    transitions = [
        {
            "obs": torch.randn(OBS_SIZE),
            "new_obs": torch.randn(OBS_SIZE),
            "actions": torch.randint(NUM_ACTIONS, ()),
        }
        for _ in range(4 * BATCH_SIZE)
    ]
    return DataLoader(transitions, batch_size=BATCH_SIZE)  # type: ignore[arg-type]


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=NUM_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )


def test_the_trainer_takes_the_steps_of_a_loop_by_hand_and_gets_what_modules_log(
    learner: ImitationWithCuriosity, batches: DataLoader[dict[str, torch.Tensor]], trainer: Trainer
) -> None:
    policy, icm = (copy.deepcopy(learner.module[module_id]) for module_id in ("policy", "icm"))
    optimizer = torch.optim.SGD([*policy.parameters(), *icm.parameters()], lr=0.1)
    for batch in [*batches] * NUM_EPOCHS:
        icm_loss = icm.compute_self_supervised_loss(
            learner=Learner(module={}),
            module_id="icm",
            config=None,
            batch=batch,
            fwd_out=icm(batch),
        )
        optimizer.zero_grad()
        (
            nn.functional.cross_entropy(policy(batch)["logits"], batch["actions"]) + icm_loss
        ).backward()
        optimizer.step()
    before = copy.deepcopy(learner.state_dict())

    trainer.fit(learner, batches)

    by_hand = nn.ModuleDict({"policy": policy, "icm": icm}).state_dict()
    torch.testing.assert_close(learner.module.state_dict(), by_hand, rtol=0, atol=0)
    assert not any(torch.equal(learner.state_dict()[name], before[name]) for name in before)
    assert trainer.callback_metrics.keys() == {"icm/forward_loss", "icm/inverse_loss"}
    assert trainer.callback_metrics["icm/forward_loss"] > 0
