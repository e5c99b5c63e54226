"""What waiting threads cost: CPU and time of a step of the quickstart, on a quiet machine and beside a busy process.

`python benchmarks/threads.py` takes steps in processes of their own, in turn: on one thread, on all of them with
libgomp's own waiting (which spins), asleep at once (OMP_WAIT_POLICY=passive), and as `train.py` has them wait. It
prints medians over the rounds of each round's ratios, and their range.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
STEPS, WARM_UP, ROUNDS = 100, 20, 5
SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spinning": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "train.py's": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"},
}
SPIN = [sys.executable, "-c", "while True: pass"]


def take_steps() -> None:
    """Print milliseconds of CPU and of time a step, each the mean of all steps, as JSON."""
    sys.path.insert(0, str(ROOT))
    from functools import partial

    import torch
    import yaml

    from app.training.module import MultiTaskModule
    from datamodules.multitask import MultiTaskDataModule
    from datamodules.sampling import Shared
    from datamodules.sources import Digits
    from models.backbones import LeNet
    from models.heads import MLPHead

    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    data = MultiTaskDataModule({"digits": Digits()}, Shared(**config["data"]["sampling"]["init_args"]))
    backbone = partial(LeNet, **config["model"]["backbone"]["init_args"])
    head = partial(MLPHead, **config["model"]["head"]["init_args"])
    model = MultiTaskModule(data.targets, data.input_shape, backbone, head=head)
    optimizer = torch.optim.AdamW(model.parameters())
    batches = iter(data.train_dataloader())
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            cpu, start = time.process_time(), time.perf_counter()
        batch = next(batches)
        outputs = model(batch.inputs, batch.rows)
        losses = [model.network.tasks[name].losses(outputs[name], batch.targets[name]).mean() for name in outputs]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    found = {"cpu": time.process_time() - cpu, "time": time.perf_counter() - start}
    print(json.dumps({key: 1000 * value / STEPS for key, value in found.items()}))


def measured(setting: str) -> dict[str, float]:
    """Figures of a process under a setting."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, "steps"]
    done = subprocess.run(command, env=environment | SETTINGS[setting], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rounds(busy: bool) -> list[dict[str, dict[str, float]]]:
    """Setting → figures, for every round; beside a busy process or alone."""
    found = []
    for _ in range(ROUNDS):
        other = subprocess.Popen(SPIN) if busy else None
        found.append({setting: measured(setting) for setting in SETTINGS})
        if other:
            other.kill()
            other.wait()
    return found


def main() -> None:
    table = Table("machine", "setting", "CPU a step", "CPU / one thread's", "time a step", "time / spinning's")
    for busy in (False, True):
        found = rounds(busy)
        for setting in SETTINGS:
            cells = [f"{statistics.median(each[setting][key] for each in found):.1f} ms" for key in ("cpu", "time")]
            ratios = []
            for key, base in (("cpu", "one thread"), ("time", "spinning")):
                values = sorted(each[setting][key] / each[base][key] for each in found)
                ratios.append(f"{statistics.median(values):.2f} ({values[0]:.2f}–{values[-1]:.2f})")
            table.add_row("busy" if busy else "quiet", setting, cells[0], ratios[0], cells[1], ratios[1])
    Console(width=120).print(table)


if __name__ == "__main__":
    take_steps() if "steps" in sys.argv else main()
