"""Every balancing method on one small run; as a script, a rank of it for each method in turn."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor
from torchjd.aggregation import IMTLG, AlignedMTL, DualProj, GradDrop, PCGrad, Sum, UPGrad

from app import balancing
from app.balancing import Balancer, GradientConfig
from app.training.module import MultiTaskModule
from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import Source, TensorSplit
from datamodules.targets import Binary, Categorical, Continuous
from models.backbones import MLP

ROWS = 36

METHODS: dict[str, Callable[[], tuple[Balancer, GradientConfig]]] = {
    name: partial(lambda make, options: (make(), GradientConfig(**{k: v() for k, v in options.items()})), make, options)
    for name, make, options in [
        ("fixed", balancing.FixedWeights, {}),
        ("rlw", balancing.RLW, {}),
        ("uncertainty", balancing.UncertaintyWeighting, {}),
        ("uw_so", balancing.UWSO, {}),
        ("dwa", balancing.DWA, {}),
        ("gls", balancing.GLS, {}),
        ("imtl_l", balancing.IMTLL, {}),
        ("famo", balancing.FAMO, {}),
        ("stch", partial(balancing.STCH, warmup_epochs=1), {}),
        ("worst_case", balancing.WorstCase, {}),
        ("exponentiated_gradient", balancing.ExponentiatedGradient, {}),
        ("gradnorm", balancing.GradNorm, {}),
        ("log_losses", balancing.LogLosses, {}),
        ("sum", Sum, {}),
        ("mgda", balancing.MGDA, {}),
        ("mgda_ub", balancing.MGDA, {"level": lambda: "features"}),
        ("pcgrad", PCGrad, {}),
        ("gradvac", balancing.GradVac, {}),
        ("cagrad", partial(balancing.CAGrad, c=0.4), {}),
        ("imtl_g", IMTLG, {}),
        ("imtl", IMTLG, {"loss_transform": balancing.IMTLL}),
        ("log_mgda", balancing.MGDA, {"loss_transform": balancing.LogLosses}),
        ("nash_mtl", balancing.NashMTL, {"scale_heads": lambda: True}),
        ("aligned_mtl", AlignedMTL, {}),
        ("upgrad", UPGrad, {}),
        ("upgrad_every_second", UPGrad, {"every": lambda: 2}),
        ("log_upgrad_every_second", UPGrad, {"every": lambda: 2, "loss_transform": balancing.LogLosses}),
        ("upgrad_ub_every_second", UPGrad, {"every": lambda: 2, "level": lambda: "features"}),
        ("dualproj", DualProj, {}),
        ("fairgrad", balancing.FairGrad, {}),
        ("graddrop", GradDrop, {}),
    ]
}
MICRO_BATCHES = {"fixed", "imtl_l", "gls", "gradnorm", "imtl", "nash_mtl", "upgrad_every_second", "graddrop"}
WHOLE_BATCH = {"famo", "mgda_ub", "upgrad_ub_every_second"}  # those that refuse to accumulate


class Points(Source):
    """Three tasks over random points, labels missing here and there; one of them rare, and absent from some steps."""

    def __init__(self) -> None:
        self.targets = {"kind": Categorical(("a", "b", "c")), "rare": Binary(), "size": Continuous("kg")}

    def split(self, name: str) -> TensorSplit:
        draw = torch.Generator().manual_seed(len(name))
        inputs = torch.randn(ROWS, 6, generator=draw)
        labels = {
            "kind": inputs[:, :3].argmax(dim=1),
            "rare": (inputs.sum(dim=1) > 0).float(),
            "size": 5 + inputs[:, 0] * inputs[:, 1] - inputs[:, 2],
        }
        labelled = {
            "kind": torch.rand(ROWS, generator=draw) > 0.2,
            "rare": torch.arange(ROWS) % 12 == 0,
            "size": torch.rand(ROWS, generator=draw) > 0.3,
        }
        return TensorSplit(inputs, labels, labelled)


class Keep(Callback):
    """Keeps all that a step changes: parameters and state, after every step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.step_ends():
            state = pl_module.state_dict().values()
            self.steps.append(torch.cat([x.detach().double().flatten().cpu() for x in state if isinstance(x, Tensor)]))


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def build(method: str, batch: int, optimizer=SGD) -> tuple[MultiTaskModule, MultiTaskDataModule]:
    seed_everything(0, verbose=False)
    data = MultiTaskDataModule({"points": Points()}, Shared(batch))
    balancer, gradients = METHODS[method]()
    module = MultiTaskModule(
        data.targets,
        data.input_shape,
        partial(MLP, hidden=(8, 8)),
        optimizer=optimizer,
        balancer=balancer,
        gradients=gradients,
    )
    return module, data


def fit(
    method: str, ranks: int, batch: int, accumulate: int, optimizer=SGD, callbacks=(), ckpt_path=None, **options
) -> Tensor:
    """What `Keep` kept, [steps, numbers]."""
    module, data = build(method, batch, optimizer)
    keep = Keep()
    usual = {"accelerator": "cpu", "max_epochs": 3} | ({} if "plugins" in options else {"precision": "64-true"})
    trainer = Trainer(
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[keep, *callbacks],
        **usual | options,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return torch.stack(keep.steps)


def main(folder: Path) -> None:
    rank, ranks = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE"))
    kept = {}
    for method in METHODS if ranks == 2 else sorted(MICRO_BATCHES):  # three share two cores
        kept[method, 1] = fit(method, ranks, 12 // ranks, 1)
        if method in MICRO_BATCHES and ranks == 2:
            kept[method, 2] = fit(method, ranks, 3, 2)
    torch.save(kept, folder / f"rank-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
