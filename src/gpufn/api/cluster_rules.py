"""What may be registered as a cluster, in the reference's order and with its status codes. Pure.

(clusters page, sections 2.2 and 2.3)
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from gpufn.model.cluster import EVERYONE, Cluster, ClusterKind, Connection, Gpu
from gpufn.model.cluster_catalog import ATTRIBUTES, CAPABILITIES, DYNAMIC, PROVIDERS, REGIONS, SOURCES
from gpufn.model.errors import Conflict, Invalid
from gpufn.model.ids import AccountId, name_id, new_id
from gpufn.wire.cluster_registration import ClusterCreateRequest, ClusterUpdateRequest, DockerDto

SHORT = 32
"""Characters of names and descriptions in a new group."""
GPU_NAME = re.compile(r"[a-zA-Z0-9_-]{1,22}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_OWN_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
PRECONDITION = 412
LOOPBACK = "127.0.0.1"


def created(body: ClusterCreateRequest, nca_id: str, present: Sequence[Cluster], now: datetime) -> Cluster:
    """The cluster to record; ``present`` are all of the installation. Raises Invalid and Conflict for the first thing
    that is wrong.
    """
    own = [c for c in present if c.nca_id == nca_id]
    if _NAME.fullmatch(body.cluster_name) is None:
        raise Invalid("clusterName: must be lower-case letters and digits, with hyphens inside")
    if any(c.name == body.cluster_name for c in own):
        raise Invalid(f"clusterName: account '{nca_id}' has a cluster '{body.cluster_name}' already; take another name")
    if body.nca_id != nca_id:
        raise Invalid(f"ncaId: '{body.nca_id}' is not the '{nca_id}' of the path")
    _check_words(body)
    siblings = [c for c in own if c.group_name == body.cluster_group_name]
    _check_short(body, siblings)
    cluster_id = name_id(body.o_auth_client_id) if body.o_auth_client_id is not None else new_id()
    if any(c.id == cluster_id for c in present):
        raise Conflict(f"oAuthClientId: '{body.o_auth_client_id}' is registered for a cluster already")
    _check_group(body, nca_id, siblings)
    _check_authorized(body, nca_id, external=body.o_auth_client_id is None and body.docker is None)
    _check_gpus(body, nca_id, siblings)
    details = body.details()
    if body.o_auth_client_id is not None:
        details |= {"oAuthClientId": body.o_auth_client_id, "ssaClientId": body.o_auth_client_id}
    connection = _connection(body.docker) if body.docker is not None else None
    return _defined(
        Cluster(
            id=cluster_id,
            name=body.cluster_name,
            group_id=siblings[0].group_id if siblings else new_id(),
            group_name=body.cluster_group_name,
            region="",
            gpus=(),
            nca_id=AccountId(nca_id),
            kind=ClusterKind.AGENT if connection is None else ClusterKind.DOCKER,
            connection=connection,
            mode_at=now,
            details=details,
        ),
        body,
    )


def updated(
    cluster: Cluster, body: ClusterUpdateRequest, present: Sequence[Cluster], live: Sequence[tuple[str, str, str]]
) -> Cluster:
    """The cluster after a PUT. ``live``: account, instance type and id of each instance there. A connection that is
    left out stays.
    """
    if cluster.kind is ClusterKind.LOCAL:
        raise Invalid(
            f"cluster '{cluster.name}' is the machine that gpufn runs on: change section [cluster] of its settings and "
            "start it again",
            status=PRECONDITION,
        )
    _check_words(body)
    siblings = [
        c
        for c in present
        if c.nca_id == cluster.nca_id and c.group_name == body.cluster_group_name and c.id != cluster.id
    ]
    _check_group(body, cluster.nca_id, siblings)
    _check_authorized(body, cluster.nca_id, external=False)
    _check_gpus(body, cluster.nca_id, siblings)
    moved = body.cluster_group_name != cluster.group_name
    group_id = (siblings[0].group_id if siblings else new_id()) if moved else cluster.group_id
    connection = _connection(body.docker) if body.docker is not None else cluster.connection
    kept = {name: cluster.details[name] for name in ("oAuthClientId", "ssaClientId") if name in cluster.details}
    after = _defined(
        replace(
            cluster,
            group_id=group_id,
            group_name=body.cluster_group_name,
            connection=connection,
            details=body.details() | kept,
            kind=ClusterKind.AGENT if connection is None else ClusterKind.DOCKER,
        ),
        body,
    )
    _check_in_use(after, live)
    return after


def _defined(cluster: Cluster, body: ClusterUpdateRequest) -> Cluster:
    return replace(
        cluster,
        region=body.region.lower(),
        zone=body.availability_zone or "",
        provider=body.cloud_provider.upper(),
        attributes=_spelled(body.attributes, ATTRIBUTES),
        custom_attributes=body.custom_attributes,
        authorized=body.authorized_nca_ids,
        gpus=tuple(gpu.to_model() for gpu in body.gpus),
    )


def _check_words(body: ClusterUpdateRequest) -> None:
    _known("cloudProvider", (body.cloud_provider,), PROVIDERS)
    _known("capabilities", body.capabilities, CAPABILITIES)
    _known("attributes", body.attributes, ATTRIBUTES, hint="; what is your own belongs into customAttributes")
    if body.docker is None:
        _known("region", (body.region,), REGIONS)
    elif _OWN_REGION.fullmatch(body.region.lower()) is None:
        raise Invalid("region: must be letters and digits, with hyphens inside")
    if body.cluster_source is not None:
        _known("clusterSource", (body.cluster_source,), SOURCES)


def _known(field: str, given: Sequence[str], known: Sequence[str], *, hint: str = "") -> None:
    lower = {word.lower() for word in known}
    for word in given:
        if word.lower() not in lower:
            raise Invalid(f"{field}: '{word}' is none of {', '.join(known)}{hint}")


def _spelled(given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    by_lower = {word.lower(): word for word in known}
    return tuple(dict.fromkeys(by_lower[word.lower()] for word in given))


def _check_short(body: ClusterCreateRequest, siblings: Sequence[Cluster]) -> None:
    named = (
        ("clusterName", body.cluster_name),
        ("clusterGroupName", body.cluster_group_name),
        ("clusterDescription", body.cluster_description or ""),
    )
    for field, text in () if siblings else named:
        if len(text) > SHORT:
            raise Invalid(f"{field}: must not be longer than {SHORT} characters in a new group", status=PRECONDITION)


def _check_group(body: ClusterUpdateRequest, nca_id: str, siblings: Sequence[Cluster]) -> None:
    for sibling in siblings:
        if sibling.provider.lower() != body.cloud_provider.lower():
            raise Conflict(
                f"cloudProvider: group '{body.cluster_group_name}' of account '{nca_id}' has {sibling.provider} "
                f"(cluster '{sibling.name}'); use that, or another group"
            )


def _check_authorized(body: ClusterUpdateRequest, nca_id: str, *, external: bool) -> None:
    given = body.authorized_nca_ids
    if nca_id in given:
        raise Conflict(f"authorizedNCAIds: '{nca_id}' owns the cluster and need not be named; leave it out")
    if EVERYONE in given and len(given) > 1:
        raise Conflict("authorizedNCAIds: '*' stands for everybody and must be alone")
    if any(not account.strip() for account in given):
        raise Conflict("authorizedNCAIds: none may be blank")
    if external and EVERYONE in given:
        raise Conflict("authorizedNCAIds: a cluster without oAuthClientId cannot be for everybody; name the accounts")


def _check_gpus(body: ClusterUpdateRequest, nca_id: str, siblings: Sequence[Cluster]) -> None:
    dynamic = DYNAMIC.lower() in {c.lower() for c in body.capabilities}
    if dynamic == bool(body.gpus):
        raise Invalid(
            f"gpus: give them, or the capability {DYNAMIC} if the cluster reports them itself; one of the two",
            status=PRECONDITION,
        )
    if dynamic and body.docker is not None:
        raise Invalid("gpus: a container engine does not report its GPUs; give them", status=PRECONDITION)
    _check_inventory(body)
    for gpu in body.gpus:
        for sibling in siblings:
            _check_shared(gpu.to_model(), body, nca_id, sibling)


def _check_inventory(body: ClusterUpdateRequest) -> None:
    for n, gpu in enumerate(body.gpus):
        if GPU_NAME.fullmatch(gpu.name) is None:
            raise Invalid(f"gpus[{n}].name: '{gpu.name}' must be 1 to 22 letters, digits, - and _")
        defaults = sum(t.default for t in gpu.instance_types)
        if defaults != 1:
            raise Conflict(f"gpus[{n}].instanceTypes: exactly one must be the default; {defaults} are")
    if len({gpu.name.lower() for gpu in body.gpus}) != len(body.gpus):
        raise Invalid("gpus: a name is given twice; GPUs of one name are one entry")


def _check_shared(gpu: Gpu, body: ClusterUpdateRequest, nca_id: str, sibling: Cluster) -> None:
    other = sibling.gpu(gpu.name)
    if other is None:
        return
    if {nca_id, *body.authorized_nca_ids} != {sibling.nca_id, *sibling.authorized}:
        raise Conflict(
            f"authorizedNCAIds: cluster '{sibling.name}' of the same group has {gpu.name} for other accounts; make "
            "them the same, or use another group"
        )
    if {t.name for t in gpu.instance_types} != {t.name for t in other.instance_types}:
        raise Conflict(
            f"gpus: cluster '{sibling.name}' of the same group has other instance types for {gpu.name}; make them the "
            "same, or use another group"
        )


def _check_in_use(after: Cluster, live: Sequence[tuple[str, str, str]]) -> None:
    offered = {t.name for gpu in after.gpus for t in gpu.instance_types}
    _refuse_if_any(live, lambda one: one[1] not in offered, "gpus: an instance type that is left out")
    _refuse_if_any(live, lambda one: not after.admits(one[0]), "authorizedNCAIds: an account that is left out")


def _refuse_if_any(
    live: Sequence[tuple[str, str, str]], wrong: Callable[[tuple[str, str, str]], bool], what: str
) -> None:
    found = [instance_id for account, kind, instance_id in live if wrong((account, kind, instance_id))]
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Conflict(f"{what} has instances there: {', '.join(found[:5])}{more}; stop them first, or drain it")


def _connection(docker: DockerDto) -> Connection:
    """How the engine is reached, with what follows from its URL."""
    parts = urlsplit(docker.url)
    if parts.scheme == "unix" and parts.path.startswith("/"):
        files = True if docker.shares_files is None else docker.shares_files
        return Connection(docker.url, docker.address or LOOPBACK, docker.publish or LOOPBACK, files)
    if parts.scheme not in ("tcp", "ssh") or not parts.hostname:
        raise Invalid("docker.url: must be unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST")
    if parts.scheme == "tcp" and docker.tls is None and not _is_loopback(parts.hostname):
        raise Invalid(
            "docker.tls: an engine on another machine takes commands from anybody who reaches its port, so TLS on both "
            "sides is needed; give ca, cert and key"
        )
    address = docker.address or parts.hostname
    publish = docker.publish or (address if _is_ip(address) else None)
    if publish is None or not _is_ip(publish):
        raise Invalid(
            "docker.publish: say on which IP address of that machine ports are to be published: one that only this "
            "machine reaches, or 0.0.0.0 for all"
        )
    return Connection(docker.url, address, publish, docker.shares_files or False)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
