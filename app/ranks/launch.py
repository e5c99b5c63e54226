"""What ranks tell each other before Lightning connects them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from models.errors import ConfigurationError

PATIENCE = timedelta(minutes=10)
_CALLS = count()  # the same on all ranks; a store that outlives a call keeps what was told in it


def told_by_first_rank(first: Callable[[], str]) -> str:
    """What `first` gives on the first rank, on all of them; it is called there alone.

    Args:
        first: Called on the first rank.

    Raises:
        ConfigurationError: Some rank does not start.
    """
    ranks, rank, address, port = _place()
    if ranks == 1:
        return first()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # torchrun has a store at this address already, which outlives the run's restarts
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(address, port, is_master=hosts, timeout=PATIENCE, wait_for_workers=False)
    shared = PrefixStore(f"polyhead/{attempt}/{next(_CALLS)}", store)
    if rank == 0:
        shared.set("told", first())
    told: str = shared.get("told").decode()
    shared.add("heard", 1)
    if hosts:  # the port is wanted again, when all have heard
        _await(lambda: shared.add("heard", 0), ranks)
    return told


def _await(heard: Callable[[], int], ranks: int) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while (so_far := heard()) < ranks:
        if time.monotonic() > deadline:
            raise ConfigurationError("WORLD_SIZE", f"all {ranks} ranks must start within {PATIENCE}", so_far)
        time.sleep(0.01)


def _place() -> tuple[int, int, str, int]:
    """Number of ranks that were started from outside, which of them this is, and where the first one listens."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        environment = SLURMEnvironment()
    elif {"WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        ranks, rank, port = (int(os.environ[name]) for name in ("WORLD_SIZE", "RANK", "MASTER_PORT"))
        return ranks, rank, os.environ["MASTER_ADDR"], port
    else:
        return 1, 0, "", 0
    return environment.world_size(), environment.global_rank(), environment.main_address, environment.main_port
