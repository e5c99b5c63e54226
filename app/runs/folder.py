"""Folders of runs, `runs/<name>/version_<k>/`."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


def run_folder(checkpoint: Path | None, name: str) -> Path:
    """The run that a checkpoint belongs to, or the next new one of the runs called `name`."""
    if checkpoint and checkpoint.parent.name == "checkpoints" and checkpoint.parents[1].name.startswith("version_"):
        return checkpoint.parents[1]
    versions = [path.name.removeprefix("version_") for path in (RUNS / name).glob("version_*")]
    return RUNS / name / f"version_{max((int(version) for version in versions if version.isdigit()), default=-1) + 1}"
