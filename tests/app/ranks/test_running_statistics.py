"""Running statistics of several ranks against those of one process; the ranks are forks of this one."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from app.ranks.running_statistics import RunningStatistics
from models.backbones import MLP
from models.sharing import IndependentNetworks

ROWS = 12
STEPS = 3


class Normalised(MLP):
    def __init__(self) -> None:
        super().__init__((4,), (5, 3))
        self.layers.insert(1, nn.BatchNorm1d(5))


def network() -> IndependentNetworks:
    torch.manual_seed(0)
    return IndependentNetworks(Normalised, ["all", "some", "one", "absent"]).double().train()


def rows_of(task: str, mine: list[int]) -> Tensor:
    """Places of a task's rows among those of a rank: all, the first five, the last one, none."""
    own = {"all": range(ROWS), "some": range(5), "one": [ROWS - 1], "absent": []}[task]
    return torch.tensor([place for place, row in enumerate(mine) if row in own], dtype=torch.long)


def steps(sharing: IndependentNetworks, mine: list[int], after: Callable[[], None]) -> None:
    for step in range(STEPS):
        x = 3 + 2 * torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(step)).double()
        rows = {task: rows_of(task, mine) for task in sharing.networks}
        sharing(x[mine], {task: each for task, each in rows.items() if len(each)})
        after()


def rank(number: int, ranks: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=ranks)
    sharing = network()
    statistics = RunningStatistics(sharing)
    mine = list(range(ROWS))[number * 8 : (number + 1) * 8]  # eight rows and four; the second has none of "some"
    steps(sharing, mine, statistics.average)
    state = {name: value.clone() for name, value in sharing.state_dict().items()}
    with torch.no_grad():
        sharing(torch.randn(4, 4).double(), {"all": torch.arange(4)})  # which is no step: not counted
    torch.save({**state, "rows": statistics._rows[0][1]}, folder / f"{number}.pt")
    dist.destroy_process_group()
    os._exit(0)


@pytest.fixture
def states(tmp_path: Path) -> list[dict[str, Tensor]]:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=rank, args=(number, 2, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [torch.load(tmp_path / f"{number}.pt") for number in range(2)]


def test_means_are_those_of_one_process(states: list[dict[str, Tensor]]) -> None:
    whole = network()
    steps(whole, list(range(ROWS)), lambda: None)
    for name, expected in whole.state_dict().items():
        first = states[0][name]
        if "running_mean" in name:
            torch.testing.assert_close(first, expected, rtol=0, atol=1e-12)
        if "num_batches" in name:
            assert torch.equal(first, expected)
        if "running_var" in name and ".some." in name:  # of which one rank has all rows
            torch.testing.assert_close(first, expected, rtol=0, atol=1e-12)


def test_a_rank_without_rows_holds_nothing_back(states: list[dict[str, Tensor]]) -> None:
    whole = network()
    steps(whole, list(range(ROWS)), lambda: None)
    for task in ("all", "some"):
        name = f"networks.{task}.layers.1.running_mean"
        ours, theirs = states[0][name].norm(), whole.state_dict()[name].norm()
        assert (ours / theirs).item() == pytest.approx(1, abs=1e-12)


def test_ranks_agree_bit_for_bit(states: list[dict[str, Tensor]]) -> None:
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_what_no_rank_has_moved_stays(states: list[dict[str, Tensor]]) -> None:
    fresh = network().state_dict()
    for task in ("one", "absent"):  # a single row moves none
        for state in states:
            for kind in ("running_mean", "running_var"):
                name = f"networks.{task}.layers.1.{kind}"
                assert torch.equal(state[name], fresh[name])


def test_only_steps_are_counted(states: list[dict[str, Tensor]]) -> None:
    assert [state["rows"].item() for state in states] == [0.0, 0.0]


def test_frozen_statistics_need_no_group() -> None:
    RunningStatistics(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2, track_running_stats=False)).eval()).average()


def test_statistics_of_one_rank_are_its_own(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    sharing = network()
    statistics = RunningStatistics(sharing)
    steps(sharing, list(range(ROWS)), lambda: None)
    before = {name: buffer.clone() for name, buffer in sharing.named_buffers()}
    statistics.average()
    dist.destroy_process_group()
    assert all(torch.equal(buffer, before[name]) for name, buffer in sharing.named_buffers())


def test_nothing_is_counted_for_one_process() -> None:
    sharing = network()
    RunningStatistics(sharing)
    assert not any(each._forward_pre_hooks for each in sharing.modules())


def hooked(number: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    sharing = network()
    statistics = RunningStatistics(sharing)
    during = sum(len(each._forward_pre_hooks) for each in sharing.modules())
    statistics.close()
    after = sum(len(each._forward_pre_hooks) for each in sharing.modules())
    (folder / f"{number}.txt").write_text(f"{during} {after}")
    dist.destroy_process_group()
    os._exit(0)


def test_a_closed_one_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=hooked, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [(tmp_path / f"{number}.txt").read_text() for number in range(2)] == ["4 0", "4 0"]
