"""A module that is trained twice begins the second time without what callbacks of the first have added."""

from collections.abc import Callable

from conftest import SMALL
from lightning.pytorch import Trainer


def test_a_second_training_has_no_penalty_average_or_schedule(train_here: Callable) -> None:
    cli = train_here(
        "fit", "--config", str(SMALL), "--trainer.max_epochs", "1", "--schedule", "linear_probe",
        "--trainer.callbacks+=L2SP", "--trainer.callbacks.alpha", "0.3", "--trainer.callbacks+=EMA",
    )  # fmt: skip
    trunk = [parameter.detach().clone() for parameter in cli.model.network.sharing.parameters()]
    for parameter in cli.model.parameters():
        parameter.requires_grad_(True)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=2, limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(cli.model, datamodule=cli.datamodule)
    assert cli.model.fine_tuning is None
    assert not any(cli.model.penalties.terms())
    assert cli.model.after_step.places() == []
    changed = zip(cli.model.network.sharing.parameters(), trunk, strict=True)
    assert any(not now.equal(before) for now, before in changed)
