"""The clusters of the installation as they are known now, and the backend of each that gpufn can reach.

One object in the control process: the API reads ``clusters``, controllers ask for backends. What a cluster is comes
from the database (``learn``); its backend is opened and let go of by ``controllers/clusters``. A new kind of cluster
is one more ``Backend`` and one more branch where the composition root opens them; nothing else knows kinds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from gpufn.compute.backend import Backend, BackendError
from gpufn.model.cluster import Cluster, Clusters
from gpufn.runtime.log import get_logger

log = get_logger("fleet")


async def _nothing(image: str) -> bool:
    return False


class Fleet:
    """``local`` is this machine; it is always there. ``owns`` says whether it alone has an image, as of the catalog."""

    def __init__(self, local: Cluster, backend: Backend, *, owns: Callable[[str], Awaitable[bool]] = _nothing) -> None:
        self.local, self._owns = backend, owns
        self.clusters = Clusters((local,))
        self._backends: dict[str, Backend] = {local.id: backend}

    def __repr__(self) -> str:
        return f"<Fleet {', '.join(c.name for c in self.clusters.all)}; reachable: {len(self._backends)}>"

    def learn(self, found: Iterable[Cluster]) -> None:
        """These are the clusters now."""
        by_id = {cluster.id: cluster for cluster in found}
        local = by_id.pop(self.clusters.local.id, self.clusters.local)
        self.clusters = Clusters((local, *by_id.values()))

    def attach(self, cluster_id: str, backend: Backend) -> None:
        """The cluster is reached through ``backend``, which is open."""
        self._backends[cluster_id] = backend

    def detach(self, cluster_id: str) -> Backend | None:
        """The cluster is not reached any more; what it was reached through, for the caller to close."""
        return self._backends.pop(cluster_id, None)

    def reaches(self, cluster_id: str) -> bool:
        """Whether there is a backend for it."""
        return cluster_id in self._backends

    def backend(self, cluster_id: str) -> Backend:
        """Where instances of the cluster run; an empty id is the local one's. Raises BackendError when there is no
        way to it now.
        """
        found = self._backends.get(cluster_id or self.clusters.local.id)
        if found is None:
            cluster = self.clusters.get(cluster_id)
            if cluster is None:
                raise BackendError(f"cluster {cluster_id} is not registered any more")
            raise BackendError(f"cluster {cluster.name} cannot be reached: {cluster.health.problem or 'not yet tried'}")
        return found

    def everywhere(self) -> Sequence[tuple[str, Backend]]:
        """Every cluster that answers, with its backend."""
        known = ((cluster_id, self.clusters.get(cluster_id)) for cluster_id in self._backends)
        answering = [i for i, cluster in known if cluster is not None and cluster.health.failing_at is None]
        return [(cluster_id, self._backends[cluster_id]) for cluster_id in answering]

    async def holders(self, image: str) -> frozenset[str] | None:
        """The clusters, by id, that alone have ``image``; None when any may fetch it."""
        return frozenset({self.clusters.local.id}) if await self._owns(image) else None

    async def close(self, *, terminate: bool) -> None:
        """Let go of every backend, the others also when one fails; the local one last."""
        for cluster_id, backend in reversed(list(self._backends.items())):
            if backend is not self.local:
                self.detach(cluster_id)
                try:
                    await backend.close(terminate=terminate)
                except BackendError as error:
                    log.warning("a cluster could not be let go of", cluster=cluster_id, error=str(error))
        await self.local.close(terminate=terminate)
