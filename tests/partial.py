"""A user's own source: digits with labels missing, some rows of one task only, one task rarely labelled at all."""

import torch

from datamodules.sources import Digits, Source, TensorSplit


class PartialDigits(Source):
    def __init__(self, rows: int = 120) -> None:
        self.digits = Digits(train_pairs=rows, val_pairs=40, test_pairs=40)
        self.targets = self.digits.targets

    def split(self, name: str) -> TensorSplit:
        whole = self.digits.split(name)
        generator = torch.Generator().manual_seed(len(whole))
        labelled = {task: torch.rand(len(whole), generator=generator) > 0.3 for task in self.targets}
        labelled["parity"] = torch.arange(len(whole)) % 20 == 0
        return TensorSplit(whole.inputs, {task: whole._labels[task] for task in self.targets}, labelled)
