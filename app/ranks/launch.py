"""What ranks tell each other before Lightning connects them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

PATIENCE = timedelta(minutes=10)


def told_by_first_rank(first: Callable[[], str]) -> str:
    """What `first` gives on the first rank, on all of them; it is called there alone.

    Args:
        first: Called on the first rank.
    """
    ranks, rank, address, port = _place()
    if ranks == 1:
        return first()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # torchrun has a store at this address already, which outlives the run's restarts
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(address, port, is_master=hosts, timeout=PATIENCE, wait_for_workers=False)
    shared = PrefixStore(f"polyhead/{attempt}", store)
    if rank == 0:
        shared.set("told", first())
    told: str = shared.get("told").decode()
    shared.add("heard", 1)
    if hosts:  # the port is wanted again, when all have heard
        while shared.add("heard", 0) < ranks:
            pass
    return told


def _place() -> tuple[int, int, str, int]:
    """Number of ranks that were started from outside, which of them this is, and where the first one listens."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        environment = SLURMEnvironment()
    elif {"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        rank = int(os.environ.get("RANK", os.environ["LOCAL_RANK"]))
        return int(os.environ["WORLD_SIZE"]), rank, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    else:
        return 1, 0, "", 0
    return environment.world_size(), environment.global_rank(), environment.main_address, environment.main_port
