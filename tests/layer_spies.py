"""A callback that watches the layers of a run, added by `class_path`."""

from pathlib import Path

import torch
from lightning.pytorch import Callback


class RecordLayers(Callback):
    """Keeps, after every optimizer step, the phase and each layer's parameters and buffers; writes them to `file`."""

    def __init__(self, file: str) -> None:
        self.file, self.kept = Path(file), []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not pl_module.step_ends():
            return
        owner = {id(p): layer for layer, parameters in pl_module.network.layers.items() for p in parameters}
        state = {
            layer: [p.detach().clone() for p in parameters] for layer, parameters in pl_module.network.layers.items()
        }
        statistics = {layer: [] for layer in pl_module.network.layers}
        for module in (*pl_module.network.sharing.modules(), *pl_module.network.heads.modules()):
            own = [owner[id(p)] for p in module.parameters(recurse=False)]
            for buffer in module.buffers(recurse=False) if own else ():
                statistics[own[0]].append(buffer.clone())
        number = pl_module.fine_tuning.progress.number
        self.kept.append({"phase": number, "parameters": state, "statistics": statistics})

    def on_train_end(self, trainer, pl_module):
        torch.save(self.kept, self.file)
