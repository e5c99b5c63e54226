"""Folders of runs are claimed: no two runs share one, and a run that was refused leaves none."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

from app.runs import claim_folder, forget_claim, release_folder


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


def rank(folder: str, number: int, port: int, found: object) -> None:
    os.chdir(folder)
    place = {"WORLD_SIZE": "3", "LOCAL_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place)
    found.put(str(claim_folder("several")))


def test_ranks_that_are_started_from_outside_agree(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "runs/several/version_4").mkdir(parents=True)
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    ranks = [fork.Process(target=rank, args=(str(tmp_path), number, port, found)) for number in range(3)]
    for process in ranks:
        process.start()
    assert {found.get() for _ in ranks} == {"runs/several/version_5"}
    for process in ranks:
        process.join()
    assert len(list((tmp_path / "runs/several").iterdir())) == 2


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
