"""DeepSpeed's engine is looked through, and trains the module inside, on the CPU."""

import torch
from frameworks.shared import compute_losses, make_modules, transitions

from self_supervised_loss import Learner


def test_a_module_in_an_engine_gets_its_own_loss_and_is_trained(process_group, monkeypatch):
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    import deepspeed  # reads the variables when it is imported

    icm, batch = make_modules()["icm"], transitions(8)
    settings = {"train_batch_size": 8, "optimizer": {"type": "SGD", "params": {"lr": 0.1}}}
    engine, *_ = deepspeed.initialize(model=icm, model_parameters=icm.parameters(), config=settings)
    learner = Learner[torch.Tensor](module={"icm": engine})

    losses = []
    for _ in range(3):
        loss = compute_losses(learner, batch)["icm"]
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())

    assert losses[2] < losses[1] < losses[0]
