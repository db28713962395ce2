"""Where the replicas of a `piwsl md` command run."""

from collections.abc import Iterator
from contextlib import contextmanager

from ase import Atoms

from piwsl.errors import ConfigError
from piwsl.md.protocol import MDProtocol
from piwsl.md.replicas.distributed import DistributedReplicas


@contextmanager
def replicas_elsewhere(
    scheduler: str | None, workers: int | None, structure: Atoms, protocol: MDProtocol
) -> Iterator[DistributedReplicas | None]:
    """The workers that options name, as long as the block lasts; None: this process.

    Raises:
        ConfigError: both are named, there are no replicas, or the scheduler does not answer.
        MissingDependencyError: Dask is not installed.
    """
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise ConfigError("--dask-workers starts a cluster and --scheduler names one: give one of them")
    if protocol.replicas is None:
        raise ConfigError("a Dask cluster moves replicas: add --replicas")
    import torch

    from piwsl.md.run_model import copies_per_call
    from piwsl.runs.dask_cluster import DaskCluster, local_cluster

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chunk = copies_per_call(len(structure), protocol.replicas, workers or 1, device)
    if scheduler is not None:
        cluster = DaskCluster(scheduler)
        cluster.check()
        yield DistributedReplicas(cluster, chunk)
        return
    assert workers is not None
    with local_cluster(workers) as local:
        yield DistributedReplicas(local, chunk)
