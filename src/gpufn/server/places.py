"""Opens the backend of a registered cluster: the one place that knows what kinds of clusters there are.

A further kind (Kubernetes) is one more branch in ``connect``, which returns its ``Backend``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpufn.compute.backend import Backend, BackendError, Files
from gpufn.compute.docker import DockerBackend, Site
from gpufn.compute.docker.delivery import Copied, Mounted
from gpufn.compute.docker.endpoint import Endpoint
from gpufn.compute.docker.engine import Engine
from gpufn.compute.gpus import Device, Devices
from gpufn.model.cluster import Cluster, ClusterKind, Connection
from gpufn.model.inventory import CPU
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import DockerSettings


@dataclass(frozen=True)
class Places:
    """``data`` is the data directory; ``installation`` marks what is ours at an engine that others use too."""

    settings: DockerSettings
    data: Path
    installation: str
    tasks: Supervisor

    async def connect(self, cluster: Cluster, secrets: Files) -> Backend:
        """The backend of a cluster, open. ``secrets`` are its TLS files. Raises BackendError when it is not reached."""
        if cluster.kind is not ClusterKind.DOCKER or cluster.connection is None:
            raise BackendError(f"a cluster of kind {cluster.kind} is not reached from here")
        backend = DockerBackend(
            self.settings,
            self._site(cluster, cluster.connection, secrets),
            supervisor=self.tasks,
            data=self.data / "clusters" / cluster.id,
            devices=Devices(declared(cluster)),
        )
        await backend.open()
        return backend

    def _site(self, cluster: Cluster, connection: Connection, secrets: Files) -> Site:
        endpoint = Endpoint(connection.url, secrets)
        return Site(
            connect=lambda: Engine.at(endpoint),
            installation=f"{self.installation}/{cluster.id}",
            delivery=Mounted(self.data) if connection.shares_files else Copied(),
            host=connection.address,
            publish=connection.publish,
            needs_gpus=bool(declared(cluster)),
        )


def declared(cluster: Cluster) -> list[Device]:
    """The real devices of an inventory that was declared, numbered in its order, as ``nvidia-smi`` counts them."""
    found: list[Device] = []
    for gpu in cluster.gpus:
        if not gpu.emulated and gpu.name != CPU:
            found += [Device(len(found) + n, gpu.name, gpu.name, 0, "") for n in range(gpu.capacity)]
    return found
