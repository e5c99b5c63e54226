"""Every shipped configuration parses and builds."""

from pathlib import Path

import pytest
from conftest import ROOT, Train


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_config_builds_and_takes_a_step(train: Train, config: Path) -> None:
    train("fit", "--config", str(config), "--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu")


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_header_says_what_the_run_is(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Hardware:", "Minutes:", "Reached:"):
        assert any(word in line for line in header), f"{config.name} lacks {word!r}"
