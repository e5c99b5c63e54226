"""`results.json`: what came of a run."""

from __future__ import annotations

import json
from math import isfinite, nan
from pathlib import Path
from typing import Any

from app.runs.writing import whole_file

NAME = "results.json"
FORMAT = 1


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write the results of a run, in which numbers that are not finite become null, and the number of their format."""
    text = json.dumps(_valid({"format": FORMAT, **results}), indent=2, allow_nan=False)
    with whole_file(folder / NAME) as file:
        file.write(f"{text}\n".encode())


def best_values(folder: Path) -> dict[str, float]:
    """Monitored curve → its best value, NaN where it was not finite; nothing if the run was never validated."""
    best = json.loads((folder / NAME).read_text())["best"]
    return {monitor: nan if value is None else value for monitor, value in best.items()}


def _valid(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _valid(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value
