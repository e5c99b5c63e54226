"""What must hold of real runs under every method: ranks, micro-batches, resumes, absent tasks."""

from functools import partial
from pathlib import Path

import every_method
import pytest
import torch
from every_method import METHODS, WHOLE_BATCH, build, fit
from forked import Forks
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from app.callbacks import Resumption

SCRIPT = Path(every_method.__file__)
Kept = dict[tuple[str, int], Tensor]


def launch(forks: Forks, folder: Path, ranks: int) -> list[Kept]:
    """What every rank kept: method and micro-batches → [steps, numbers]."""
    forks.run(SCRIPT, str(folder), ranks=ranks)
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(ranks)]


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    return {method: fit(method, 1, 12, 1) for method in METHODS}


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_end_where_one_process_does(forks: Forks, whole: dict[str, Tensor], tmp_path: Path, ranks: int) -> None:
    parts = launch(forks, tmp_path, ranks)
    wrong = {}
    for method, micro_batches in parts[0]:
        for part in parts:
            kept = part[method, micro_batches]
            assert torch.equal(kept.nan_to_num(), parts[0][method, micro_batches].nan_to_num()), method
            apart = (kept - whole[method]).nan_to_num().abs().max().item()
            if not apart <= 1e-9:
                wrong[method, micro_batches] = apart
    assert not wrong


@pytest.mark.parametrize("method", [method for method in METHODS if method not in WHOLE_BATCH])
def test_micro_batches_end_where_one_batch_does(whole: dict[str, Tensor], method: str) -> None:
    assert (whole[method][0] - whole[method][-1]).nan_to_num().abs().max() > 1e-2
    apart = (fit(method, 1, 4, 3) - whole[method]).nan_to_num().abs().max()
    assert apart <= 1e-9


@pytest.mark.parametrize("method", sorted(WHOLE_BATCH))
def test_what_needs_the_whole_batch_refuses_micro_batches(method: str) -> None:
    with pytest.raises(ValueError, match=r"^trainer.accumulate_grad_batches: must be 1 with .*, found 3$"):
        fit(method, 1, 4, 3)


@pytest.mark.parametrize("method", METHODS)
def test_resumed_run_is_the_uninterrupted_one(whole: dict[str, Tensor], method: str, tmp_path: Path) -> None:
    class SaveAt(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 5:  # the second of three steps of the second epoch
                trainer.save_checkpoint(tmp_path / "at-5.ckpt", weights_only=False)

    fit(method, 1, 12, 1, max_epochs=2, callbacks=[Resumption(dict), SaveAt()])
    torch.manual_seed(99)
    rest = fit(method, 1, 12, 1, callbacks=[Resumption(dict)], ckpt_path=tmp_path / "at-5.ckpt")
    assert torch.equal(rest.nan_to_num(), whole[method][5:].nan_to_num())


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_task_keeps_its_head_and_its_state(method: str) -> None:
    class Compare(Callback):
        steps = 0

        def of_rare(self, module):
            state = {name: x for name, x in module.state_dict().items() if name.startswith("balancing.")}
            tasks = len(module.network.tasks)
            entries = [x[1].clone() for x in state.values() if x.ndim and len(x) == tasks]
            learned = [x.clone() for name, x in state.items() if name.endswith(".1")]
            return [*(p.clone() for p in module.network.heads["rare"].parameters()), *entries, *learned]

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.before = self.of_rare(pl_module)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if not batch.counts["rare"]:
                self.steps += 1
                for now, then in zip(self.of_rare(pl_module), self.before, strict=True):
                    assert torch.equal(now.nan_to_num(), then.nan_to_num())

    compare = Compare()
    fit(method, 1, 6, 1, callbacks=[compare], optimizer=partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5))
    assert compare.steps > 3


def test_the_sum_by_gradients_is_the_plain_sum(whole: dict[str, Tensor]) -> None:
    """Beside the parameters, the states differ in the weights that are held."""
    by_gradients = whole["sum"][:, : whole["fixed"].shape[1] - 3]
    assert (by_gradients - whole["fixed"][:, :-3]).nan_to_num().abs().max() <= 1e-12


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("method", METHODS)
def test_the_scaler_of_mixed_precision_changes_no_weight(method: str, device: str) -> None:
    def train(scale: float) -> Tensor:
        precision = MixedPrecision("16-mixed", device, scaler=torch.amp.GradScaler(device, init_scale=scale))
        accelerator = "gpu" if device == "cuda" else "cpu"
        return fit(method, 1, 12, 1, max_epochs=1, accelerator=accelerator, plugins=[precision])

    small, large, overflowing = train(1.0), train(2.0**12), train(2.0**60)
    assert (small - large).nan_to_num().abs().max() <= 1e-5
    assert torch.equal(overflowing[0].nan_to_num(), overflowing[-1].nan_to_num())  # every step is skipped
    before = torch.cat([x.double().flatten() for x in build(method, 12)[0].state_dict().values()])
    assert torch.equal(overflowing[0].nan_to_num(), before.nan_to_num())
