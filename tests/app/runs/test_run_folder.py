"""Folders of runs are claimed: no two runs share one, and a run that was refused leaves none."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import SMALL
from forked import WATCHDOG
from torch.distributed import TCPStore

from app.ranks import launch
from app.runs import claim_folder, forget_claim, release_folder
from models.errors import ConfigurationError


def claims(folder: str, start: object, found: object) -> None:
    os.chdir(folder)
    start.wait()
    for _ in range(20):
        found.put(str(claim_folder("same")))
        forget_claim()


def test_twenty_pairs_of_runs_started_at_once_get_forty_folders(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, found = fork.Barrier(2), fork.Queue()
    both = [fork.Process(target=claims, args=(str(tmp_path), start, found)) for _ in range(2)]
    for process in both:
        process.start()
    folders = {found.get() for _ in range(40)}
    for process in both:
        process.join()
    assert folders == {f"runs/same/version_{k}" for k in range(40)}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def rank(folder: str, place: dict[str, str], times: int, found: object) -> None:
    os.chdir(folder)
    os.environ.update(place)
    for _ in range(times):
        found.put((place["RANK"], str(claim_folder("several"))))
        forget_claim()


def claimed_by_ranks(folder: Path, number: int, times: int, place: dict[str, str]) -> dict[str, list[str]]:
    """What each of so many ranks claims, one time after the other."""
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    places = [place | {"WORLD_SIZE": str(number), "RANK": str(k), "MASTER_ADDR": "127.0.0.1"} for k in range(number)]
    ranks = [fork.Process(target=rank, args=(str(folder), each, times, found)) for each in places]
    for process in ranks:
        process.start()
    claimed: dict[str, list[str]] = {str(k): [] for k in range(number)}
    for _ in range(number * times):
        who, what = found.get(timeout=WATCHDOG)
        claimed[who].append(what)
    for process in ranks:
        process.join()
    return claimed


@pytest.mark.parametrize("local", [{}, {"LOCAL_RANK": "0"}])  # a rank a node: the first of each
def test_ranks_that_are_started_from_outside_agree(tmp_path: Path, local: dict[str, str]) -> None:
    (tmp_path / "runs/several/version_4").mkdir(parents=True)
    claimed = claimed_by_ranks(tmp_path, 3, 1, local | {"MASTER_PORT": str(free_port())})
    assert claimed == {number: ["runs/several/version_5"] for number in "012"}
    assert len(list((tmp_path / "runs/several").iterdir())) == 2


def test_ranks_of_torchrun_agree_on_each_of_two_runs(tmp_path: Path) -> None:
    port = free_port()
    agent = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_RANK": "0"}
    claimed = claimed_by_ranks(tmp_path, 2, 2, torchrun | {"MASTER_PORT": str(port)})
    del agent
    assert claimed == {number: ["runs/several/version_0", "runs/several/version_1"] for number in "01"}


def test_ranks_of_which_no_number_is_told_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (place | {"MASTER_PORT": str(free_port())}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "PATIENCE", timedelta(seconds=2))
    assert claim_folder("node") == Path("runs/node/version_0")
    forget_claim()


def test_a_rank_that_never_comes_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "PATIENCE", timedelta(seconds=1))
    with pytest.raises(ConfigurationError, match=r"^WORLD_SIZE: all 2 ranks must start within 0:00:01, found 1$"):
        claim_folder("alone")


def test_a_folder_is_released_with_those_around_it_that_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = claim_folder("a/b")
    forget_claim()
    second = claim_folder("a/b")
    forget_claim()
    release_folder(second)
    assert first.is_dir()
    assert not second.exists()
    release_folder(first)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_start_leaves_no_folder(train_here: Callable, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train_here("fit", "--config", str(SMALL), "--model.balancer", "PCGrad", "--trainer.precision", "16-true")
    assert not (tmp_path / "runs").exists()


def claims_and_releases(folder: str, start: object, found: object) -> None:
    os.chdir(folder)
    start.wait()
    try:
        for _ in range(200):
            claimed = claim_folder("a/same")
            forget_claim()
            release_folder(claimed)
    except Exception as error:
        found.put(repr(error))
    else:
        found.put("done")


def test_claims_and_releases_of_one_name_may_cross(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, found = fork.Barrier(3), fork.Queue()
    processes = [fork.Process(target=claims_and_releases, args=(str(tmp_path), start, found)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [found.get() for _ in processes] == ["done"] * 3
    for process in processes:
        process.join()
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_no_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to("gone")
    with pytest.raises(FileExistsError):
        claim_folder("name")
