"""Clusters through the API: clusters page, sections 2.2 and 2.3, and its checks 6 to 13."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from api_building import NOW, OTHER_ACCOUNT, Installation, a_cluster, an_installation, bearer

from gpufn.model.access import USER_SCOPES
from gpufn.model.cluster import Health
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.model.secret import cluster_place
from gpufn.store import clusters, instances, secrets

ACCOUNT = f"/v1/accounts/{DEFAULT_ACCOUNT}"
CLUSTERS = f"{ACCOUNT}/clusters"
TLS = {"ca": "CA", "cert": "CERT", "key": "PRIVATE"}
DOCKER = {"url": "tcp://10.0.0.7:2376", "tls": TLS}


def a_gpu(name: str = "H100", *, defaults: tuple[bool, ...] = (True, False)) -> dict[str, Any]:
    value = f"ON-PREM.GPU.{name}"
    types = [
        {"name": f"{value}_{n}x", "value": value, "gpuCount": n, "default": default, "gpuMemory": f"{80 * n}Gi"}
        for n, default in enumerate(defaults, 1)
    ]
    return {"name": name, "capacity": 8, "instanceTypes": types}


def a_registration(**changes: Any) -> dict[str, Any]:
    """A Docker host with eight H100."""
    body = {
        "clusterName": "east",
        "clusterGroupName": "racks",
        "ncaId": DEFAULT_ACCOUNT,
        "cloudProvider": "ON-PREM",
        "authorizedNCAIds": ["*"],
        "region": "us-east-1",
        "attributes": ["hostisolation"],
        "customAttributes": ["quiet"],
        "gpus": [a_gpu()],
        "docker": DOCKER,
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def an_agent(**changes: Any) -> dict[str, Any]:
    """A cluster with an agent of its own."""
    return a_registration(**{"docker": None, "nvcaVersion": "2.50.0", "oAuthClientId": "nvssa-1", **changes})


@pytest.fixture
async def it() -> AsyncIterator[Installation]:
    async with an_installation() as installation:
        await installation.context.db.run(lambda tx: clusters.insert(tx, a_cluster()))
        installation.client.headers.update(bearer(installation.a_token()))
        yield installation


async def create(it: Installation, **changes: Any) -> dict[str, Any]:
    answer = await it.client.post(CLUSTERS, json=a_registration(**changes))
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def status_of(it: Installation, body: dict[str, Any]) -> int:
    return (await it.client.post(CLUSTERS, json=body)).status_code


async def test_a_cluster_lives(it: Installation) -> None:
    """Registered, read, listed, changed, removed; NOT_READY until it answers; keys and certificates are never shown."""
    made = await create(it)
    at = f"{CLUSTERS}/{made['clusterId']}"
    read = (await it.client.get(at)).json()

    assert set(made) == {"clusterId", "clusterGroupId"}
    assert (read["clusterName"], read["clusterGroupName"], read["status"]) == ("east", "racks", "NOT_READY")
    assert read["gpuUsage"] == {"H100": {"capacity": 8, "allocated": 0, "available": 8}}
    assert read["docker"] == {
        "url": "tcp://10.0.0.7:2376",
        "address": "10.0.0.7",
        "publish": "10.0.0.7",
        "sharesFiles": False,
    }
    assert "PRIVATE" not in str(read)
    assert (read["attributes"], read["customAttributes"]) == (["HostIsolation"], ["quiet"])
    listed = (await it.client.get(CLUSTERS)).json()
    assert [c["clusterName"] for c in listed] == ["local", "east"]
    alias = await it.client.get(f"/v1/si/accounts/{DEFAULT_ACCOUNT}/clusters")
    assert alias.json() == listed

    changed = await it.client.put(at, json=a_registration(region="eu-west-1", docker=None, clusterDescription="new"))
    assert (changed.status_code, changed.content) == (200, b"")
    after = (await it.client.get(at)).json()
    assert (after["region"], after["clusterDescription"], after["docker"]) == ("eu-west-1", "new", read["docker"])
    kept = await it.context.db.run(lambda tx: secrets.names(tx, cluster_place(made["clusterId"])))
    assert kept == ["ca.pem", "cert.pem", "key.pem"]

    assert (await it.client.delete(at)).status_code == 200
    assert (await it.client.get(at)).status_code == 404
    assert await it.context.db.run(lambda tx: secrets.names(tx, cluster_place(made["clusterId"]))) == []
    assert ("cluster", made["clusterId"]) in it.hints


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"clusterName": "East"}, 400),
        ({"clusterName": "a.b"}, 400),
        ({"ncaId": "someone-else"}, 400),
        ({"attributes": ["quiet"]}, 400),
        ({"capabilities": ["Teleportation"]}, 400),
        ({"cloudProvider": "GARAGE"}, 400),
        ({"clusterSource": "self-managed"}, 400),
        ({"clusterName": "e" * 33}, 412),
        ({"clusterDescription": "e" * 33}, 412),
        ({"authorizedNCAIds": [DEFAULT_ACCOUNT]}, 409),
        ({"authorizedNCAIds": ["*", "other-account"]}, 409),
        ({"authorizedNCAIds": [" "]}, 409),
        ({"gpus": []}, 412),
        ({"capabilities": ["DynamicGPUDiscovery"]}, 412),
        ({"capabilities": ["DynamicGPUDiscovery"], "gpus": []}, 412),
        ({"gpus": [a_gpu("A" * 23)]}, 400),
        ({"gpus": [a_gpu("A.100")]}, 400),
        ({"gpus": [a_gpu("A" * 22)]}, 200),
        ({"gpus": [a_gpu(defaults=(True, True))]}, 409),
        ({"gpus": [a_gpu(defaults=(False, False))]}, 409),
        ({"docker": {"url": "tcp://10.0.0.7:2376"}}, 400),
        ({"docker": {"url": "tcp://127.0.0.1:2375"}}, 200),
        ({"docker": {"url": "http://10.0.0.7:2376", "tls": TLS}}, 400),
        ({"docker": {"url": "tcp://rack7.lan:2376", "tls": TLS}}, 400),
        ({"docker": {"url": "tcp://rack7.lan:2376", "tls": TLS, "publish": "10.0.0.7"}}, 200),
        ({"docker": {"url": "unix:///run/other.sock"}}, 200),
        ({"region": "garage"}, 200),
    ],
)
async def test_what_may_be_registered(it: Installation, change: dict[str, Any], status: int) -> None:
    """Checks 6, 7, 8 and 9, and what an engine needs: TLS beyond this machine, and an address to publish ports on."""
    assert await status_of(it, a_registration(**change)) == status


async def test_names_groups_and_clients_are_unique(it: Installation) -> None:
    """Checks 8, 10 and 11: a name once in an account; one provider and one set of instance types in a group; the id of
    a cluster with an OAuth client follows from it.
    """
    first = await create(it)
    assert await status_of(it, a_registration()) == 400
    assert await status_of(it, a_registration(clusterName="west", cloudProvider="AWS")) == 409
    assert await status_of(it, a_registration(clusterName="west", gpus=[a_gpu(defaults=(True,))])) == 409
    assert await status_of(it, a_registration(clusterName="west", authorizedNCAIds=[])) == 409
    second = await create(it, clusterName="west")
    assert second["clusterGroupId"] == first["clusterGroupId"]

    assert await status_of(it, an_agent(clusterName="agent", clusterGroupName="agents", region="garage")) == 400
    agent = await it.client.post(CLUSTERS, json=an_agent(clusterName="agent", clusterGroupName="agents"))
    digest = hashlib.md5(b"nvssa-1", usedforsecurity=False).digest()
    assert agent.json()["clusterId"] == str(uuid.UUID(bytes=digest, version=3))
    again = an_agent(clusterName="agent2", clusterGroupName="agents")
    assert await status_of(it, again) == 409
    external = an_agent(clusterName="agent2", clusterGroupName="others", oAuthClientId=None)
    assert await status_of(it, external) == 409


async def test_what_has_instances_stays(it: Installation) -> None:
    """A cluster with active instances is not removed, and keeps their instance type; drained, it goes."""
    made = await create(it, gpus=[a_gpu(), a_gpu("L40S")])
    at = f"{CLUSTERS}/{made['clusterId']}"
    _, _, deployment = await it.a_deployment()
    instance = await it.an_instance(deployment["deploymentId"])
    placed = replace(instance, cluster_id=made["clusterId"])
    await it.context.db.run(lambda tx: instances.save(tx, placed))

    refused = await it.client.delete(at)
    without = await it.client.put(at, json=a_registration(gpus=[a_gpu("L40S")]))
    less = await it.client.put(at, json=a_registration(gpus=[a_gpu()]))
    assert (refused.status_code, without.status_code, less.status_code) == (409, 409, 200)
    assert instance.id in refused.json()["detail"]
    assert instance.id in without.json()["detail"]
    assert (await it.client.get(at)).json()["gpuUsage"]["H100"]["allocated"] == 1
    assert (await it.client.get(at)).json()["instances"] == 1

    await it.context.db.run(lambda tx: instances.delete(tx, instance.id))
    assert (await it.client.delete(at)).status_code == 200


async def test_maintenance_is_a_mode_of_any_cluster(it: Installation) -> None:
    """CORDON, CORDON_AND_DRAIN and back; known at once to whoever places instances."""
    made = await create(it)
    await it.context.db.run(lambda tx: clusters.set_health(tx, made["clusterId"], Health(NOW)))
    at = f"{CLUSTERS}/{made['clusterId']}"
    for mode in ("CORDON", "cordon_and_drain", "READY"):
        answer = await it.client.put(f"{at}/mode", json={"mode": mode})
        assert (answer.status_code, answer.json()["status"]) == (200, mode.upper())
        known = it.context.fleet.clusters.get(made["clusterId"])
        assert known is not None
        assert known.mode.value == mode.upper()
    assert (await it.client.put(f"{at}/mode", json={"mode": "PAUSED"})).status_code == 400


async def test_a_silent_cluster_is_unhealthy_whatever_is_wanted(it: Installation) -> None:
    """Check 13: READY is only what answers."""
    made = await create(it)
    silent = Health(NOW, failing_at=NOW, problem="nobody answers")
    await it.context.db.run(lambda tx: clusters.set_health(tx, made["clusterId"], silent))
    read = (await it.client.get(f"{CLUSTERS}/{made['clusterId']}")).json()
    assert (read["status"], read["problem"]) == ("UNHEALTHY", "nobody answers")


async def test_clusters_are_for_operators(it: Installation) -> None:
    """Without the scope, or the right to ask for it, nothing; another account's are 409; an engine is registered by who
    may set up accounts only.
    """
    made = await create(it)
    key = bearer(await it.a_key(scopes=[s for s in USER_SCOPES if s != "account_setup"]))
    bare = bearer(it.a_token(scopes=["cluster-management"]))
    assert (await it.client.get(CLUSTERS, headers=key)).status_code == 403
    assert (await it.client.get(CLUSTERS, headers=bare)).status_code == 200
    other = await it.client.post(CLUSTERS, json=a_registration(clusterName="west"), headers=bare)
    assert (other.status_code, "account_setup" in other.json()["detail"]) == (403, True)
    theirs = f"/v1/accounts/{OTHER_ACCOUNT}/clusters"
    assert (await it.client.get(f"{theirs}/{made['clusterId']}")).status_code == 409
    assert (await it.client.get("/v1/accounts/nobody/clusters")).status_code == 404
    versions = (await it.client.get(f"{ACCOUNT}/clusterVersions")).json()
    assert "us-east-1" in versions["clusterRegions"]


async def test_every_cluster_is_in_the_lists_of_who_may_use_it(it: Installation) -> None:
    """Supported GPUs and cluster groups show all clusters that admit the account, and deployments may name them."""
    await create(it, gpus=[a_gpu("B200")])
    await create(it, clusterName="west", clusterGroupName="private", authorizedNCAIds=[], gpus=[a_gpu("GH200")])
    key, other = bearer(await it.a_key()), bearer(await it.a_key(nca_id=OTHER_ACCOUNT))

    gpus = (await it.client.get("/v2/nvcf/supportedGpus", headers=key)).json()
    assert {"gpu": "B200", "backend": "racks"} in gpus
    assert {"gpu": "GH200", "backend": "private"} in gpus
    theirs = (await it.client.get("/v2/nvcf/supportedGpus", headers=other)).json()
    assert {"gpu": "GH200", "backend": "private"} not in theirs
    groups = (await it.client.get("/v2/nvcf/clusterGroups", headers=key)).json()["clusterGroups"]
    racks = next(g for g in groups if g["name"] == "racks")
    assert [c["name"] for c in racks["clusters"]] == ["east"]
    assert racks["gpus"][0]["instanceTypes"][0] == {
        "name": "ON-PREM.GPU.B200_1x",
        "value": "ON-PREM.GPU.B200",
        "description": "",
        "default": True,
    }


async def test_services_ask_what_an_account_may_use(it: Installation) -> None:
    """Names and instance types of the clusters that answer and are not in maintenance (section 2.1)."""
    made = await create(it, gpus=[a_gpu("B200")])
    at = f"/v1/si/accounts/{DEFAULT_ACCOUNT}"
    before = (await it.client.get(f"{at}/gpus")).json()
    await it.context.db.run(lambda tx: clusters.set_health(tx, made["clusterId"], Health(NOW)))
    await it.client.put(f"{CLUSTERS}/{made['clusterId']}/mode", json={"mode": "READY"})

    names = ("gpus", "regions", "clusterNames", "attributes")
    lists = {name: (await it.client.get(f"{at}/{name}")).json()[name] for name in names}
    assert before == {"gpus": ["H100", "T10"]}
    assert lists == {
        "gpus": ["B200", "H100", "T10"],
        "regions": ["local", "us-east-1"],
        "clusterNames": ["east", "local"],
        "attributes": ["HostIsolation", "quiet"],
    }
    types = (await it.client.get(f"{at}/instanceTypes")).json()
    assert [t["name"] for t in types["B200"]] == ["ON-PREM.GPU.B200_1x", "ON-PREM.GPU.B200_2x"]
    assert (types["B200"][1]["gpuMemory"], types["B200"][1]["clusters"]) == ("160Gi", ["east"])
    groups = (await it.client.get(f"{at}/clusterGroups")).json()["clusterGroups"]
    assert {g["name"] for g in groups} == {"local", "racks"}


async def test_ngcsdk_finds_clusters_below_its_organisation(it: Installation) -> None:
    """``…/sis/clusters`` is the list of the key's own account (section 2.5)."""
    made = await create(it)
    key = bearer(await it.a_key())
    base = f"/v2/orgs/{DEFAULT_ACCOUNT}/sis"
    listed = await it.client.get(f"{base}/clusters", headers=key)
    assert [c["clusterName"] for c in listed.json()] == ["local", "east"]
    assert (await it.client.get(f"{base}/clusters/{made['clusterId']}", headers=key)).json()["clusterName"] == "east"
    assert (await it.client.get(f"{base}/clusterVersions", headers=key)).json()["nvcaVersions"] == []
    assert (await it.client.delete(f"{base}/clusters/{made['clusterId']}", headers=key)).status_code == 200
