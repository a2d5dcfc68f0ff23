"""What gateways are told: the route of every version and every valid key, as retained messages of the feed.

Keys of the loop are the feed's: ``version:<id>`` and ``key:<id>``. A version that is deployed has a ``Route``, one that
is not is ``Known``, one that was deleted is retracted; a key that is revoked or has expired is retracted as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gpufn.controllers.context import Context
from gpufn.model.access import ApiKey
from gpufn.model.cluster import Clusters
from gpufn.model.deployment import Deployment, DeploymentWanted
from gpufn.model.function import FunctionVersion
from gpufn.model.instance import Address, Instance, InstanceStatus as S
from gpufn.model.status import FunctionStatus, condition
from gpufn.model.why import obstacles
from gpufn.runtime.controller import Controller
from gpufn.store import authorizations, deployments, functions, instances, keys
from gpufn.store.database import Transaction
from gpufn.wire.feed import KeyGone, KeyGrant, Known, Message, Route, RouteGone, RouteInstance
from gpufn.wire.rates import RateLimitDto

VERSION, KEY = "version:", "key:"
LATEST_LOOK = 3600.0
"""Seconds after which a key that expires is looked at again at the latest."""
NOTE_MAX = 500
"""Characters of a note: it ends up in the reason of a 504."""


class Routes:
    """Publishes to the feed. Key: ``version:<id>`` or ``key:<id>``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.controller = Controller("routes", self.reconcile, self.keys, resync=context.settings.resync)

    async def keys(self) -> set[str]:
        """Everything that exists, and everything that gateways were told of."""
        stored = await self._context.db.run(lambda tx: (functions.ids(tx), keys.ids(tx)))
        retained = self._context.feed.latest().keys()
        return {*(VERSION + v for v in stored[0]), *(KEY + k for k in stored[1]), *retained}

    async def reconcile(self, key: str) -> float | None:
        """Publish, or retract, what ``key`` names."""
        if key.startswith(VERSION):
            await self._version(key.removeprefix(VERSION))
            return None
        return await self._key(key.removeprefix(KEY))

    def hint_version(self, version_id: str) -> None:
        """Something about a version may have changed."""
        self.controller.hint(VERSION + version_id)

    def hint_key(self, key_id: str) -> None:
        """Something about a key may have changed."""
        self.controller.hint(KEY + key_id)

    def seq_of(self, version_id: str) -> int:
        """The sequence number under which the version's route was last published."""
        return self._context.feed.seq_of(VERSION + version_id)

    def left_at(self, version_id: str, instance_id: str, *, deleted: bool) -> int | None:
        """The sequence number from which on gateways do not route to an instance; None while the route still does.

        ``deleted`` says that the version does not exist any more, so that no route is to come.
        """
        entry = self._context.feed.latest().get(VERSION + version_id)
        if entry is None:
            return self._context.feed.seq if deleted else None
        seq, message = entry
        if isinstance(message, Route) and any(i.id == instance_id for i in message.instances):
            return None
        return seq

    def draining_since(self, version_id: str) -> int | None:
        """The sequence number of the route that says the version takes nothing new; None if none does yet."""
        entry = self._context.feed.latest().get(VERSION + version_id)
        if entry is None or not isinstance(entry[1], Route) or not entry[1].draining:
            return None
        return entry[0]

    async def _version(self, version_id: str) -> None:
        message = await self._context.db.run(lambda tx: route_of(tx, version_id, self._context.fleet.clusters))
        if message is None:
            self._context.feed.retract(VERSION + version_id, RouteGone(version_id=version_id))
            self._context.load.forget(version_id)
        else:
            self._context.feed.publish(VERSION + version_id, message)

    async def _key(self, key_id: str) -> float | None:
        key = await self._context.db.run(lambda tx: keys.get(tx, key_id))
        now = self._context.now()
        if key is None or not key.is_valid(now):
            self._context.feed.retract(KEY + key_id, KeyGone(key_id=key_id))
            return None
        self._context.feed.publish(KEY + key_id, grant_of(key))
        return _until(key.expires_at, now)


def route_of(tx: Transaction, version_id: str, clusters: Clusters) -> Message | None:
    """What gateways are told of a version; None when it does not exist."""
    version = functions.find(tx, version_id)
    if version is None:
        return None
    parties = authorizations.of_version(tx, version.function_id, version.id)
    deployment = deployments.of_version(tx, version_id)
    if deployment is None:
        return Known(
            version_id=version.id,
            function_id=version.function_id,
            function_name=version.name,
            nca_id=version.nca_id,
            parties=parties,
            status=FunctionStatus.INACTIVE,
        )
    route = _route(version, deployment, instances.of_deployment(tx, deployment.id), clusters)
    return route.model_copy(update={"parties": parties})


def grant_of(key: ApiKey) -> KeyGrant:
    """What gateways are told of a valid key."""
    return KeyGrant(
        key_id=key.id,
        digest=key.digest.hex(),
        nca_id=key.nca_id,
        owner=key.owner,
        scopes=key.scopes,
        resources=tuple((r.type, r.id) for r in key.resources),
        expires_at=key.expires_at.timestamp() if key.expires_at is not None else None,
    )


def _route(version: FunctionVersion, deployment: Deployment, own: Sequence[Instance], clusters: Clusters) -> Route:
    state = condition(deployment, own)
    slots = {spec.id: spec.max_request_concurrency for spec in deployment.specifications}
    starting = [i for i in own if i.wanted and i.status in (S.PENDING, S.STARTING)]
    return Route(
        version_id=version.id,
        function_id=version.function_id,
        function_name=version.name,
        nca_id=version.nca_id,
        status=state.status,
        draining=deployment.wanted is DeploymentWanted.DRAINED,
        inference_path=version.definition.invocation_path,
        backend=clusters.local.group_name,
        region=clusters.local.region,
        instances=tuple(
            _routed(i, i.address, slots[i.specification_id], clusters)
            for i in own
            if i.status is S.READY and i.wanted and i.address is not None and i.specification_id in slots
        ),
        rate_limit=RateLimitDto.of(version.rate_limit) if version.rate_limit is not None else None,
        starting=len(starting),
        note=obstacles(deployment, own)[:NOTE_MAX],
    )


def _routed(instance: Instance, address: Address, slots: int, clusters: Clusters) -> RouteInstance:
    cluster = clusters.get(instance.cluster_id) or clusters.local
    return RouteInstance(
        id=instance.id,
        host=address.host,
        port=address.port,
        slots=slots,
        gpu=instance.gpu,
        instance_type=instance.instance_type,
        shared_dir=address.shared_dir,
        backend=cluster.group_name,
        region=cluster.region,
    )


def _until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else min(LATEST_LOOK, max(0.0, (moment - now).total_seconds()))
