"""``gpufn cluster``: what it sends is what the API takes, and what it is told is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi, serving
from running import against

from gpufn.api.cluster_rules import created
from gpufn.cli.clusters import registration
from gpufn.cli.exits import Failed
from gpufn.cli.main import parser
from gpufn.model.cluster import Cluster, ClusterKind
from gpufn.wire.cluster_registration import ClusterCreateRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def added(*words: str) -> Cluster:
    """The cluster that the API would record for ``gpufn cluster add rack7 …``."""
    body: dict[str, Any] = registration(parser(only="cluster").parse_args(["cluster", "add", "rack7", *words]))
    return created(ClusterCreateRequest.model_validate(body), "nvcf-default", [], NOW)


def test_a_host_over_tls_is_described(tmp_path: Path) -> None:
    """GPUs become instance types as the reference names them; TLS files are read; the group is the cluster's own."""
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(name)
    found = added("--docker", "tcp://10.0.0.7:2376", "--tls", str(tmp_path), "--gpu", "H100:6:80Gi", "--gpu", "CPU:4")

    assert (found.kind, found.name, found.group_name, found.region) == (ClusterKind.DOCKER, "rack7", "rack7", "local")
    h100, cpu = found.gpus
    assert [t.name for t in h100.instance_types] == [f"ON-PREM.GPU.H100_{n}x" for n in (1, 2, 4, 6)]
    assert [t.gpu_memory for t in h100.instance_types] == ["80Gi", "160Gi", "320Gi", "480Gi"]
    assert (h100.emulated, cpu.capacity, cpu.instance_types[0].gpu_count) == (False, 4, 0)
    assert found.connection is not None
    assert (found.connection.address, found.connection.publish) == ("10.0.0.7", "10.0.0.7")
    assert found.authorized == ("*",)


def test_everything_that_placement_asks_for_can_be_said() -> None:
    """Region, zone, attributes, group, who may use it, emulation, shared files."""
    words = "--gpu L40S:2 --emulated --region EU-West-1 --zone 1a --attribute quiet --group racks --authorize acme"
    found = added("--docker", "unix:///run/other.sock", "--shares-files", *words.split())

    assert (found.region, found.zone, found.custom_attributes) == ("eu-west-1", "1a", ("quiet",))
    assert (found.group_name, found.authorized) == ("racks", ("acme",))
    assert found.gpus[0].emulated
    assert found.shares_files


@pytest.mark.parametrize("text", ["H100", "H100:0", "H100:x", ":8", "H100:8:lots"])
def test_an_inventory_that_cannot_be_meant_is_refused(text: str) -> None:
    """With the form that it should have."""
    with pytest.raises(Failed, match="no inventory"):
        added("--docker", "unix:///run/other.sock", "--gpu", text)


def test_missing_tls_files_are_named(tmp_path: Path) -> None:
    """Exit 2, with the directory that is meant, before anybody is asked anything."""
    with serving(FakeApi()) as api:
        ran = against(api, "cluster", "add", "x", "--docker", "tcp://10.0.0.7:2376", "--tls", str(tmp_path))

    assert (ran.code, "ca.pem" in ran.err, api.seen) == (2, True, [])


EAST = {
    "clusterName": "east",
    "clusterId": "6f1c0000-0000-4000-8000-000000000001",
    "clusterGroupName": "racks",
    "region": "lab",
    "kind": "docker",
    "status": "UNHEALTHY",
    "mode": "READY",
    "problem": "nobody answers",
    "instances": 3,
    "docker": {"url": "unix:///run/x", "sharesFiles": True},
    "gpus": [
        {"name": "H100", "emulated": False, "instanceTypes": [{"name": "ON-PREM.GPU.H100_1x"}]},
        {"name": "T10", "emulated": True, "instanceTypes": []},
    ],
    "gpuUsage": {
        "H100": {"capacity": 8, "allocated": 3, "available": 5},
        "T10": {"capacity": 8, "allocated": 0, "available": 8},
    },
}


def test_clusters_are_shown_with_what_is_wrong() -> None:
    """In the list and alone, with an admin token; emulated kinds that nobody uses are counted only."""
    with serving(FakeApi(documents={"/v1/accounts/nvcf-default/clusters": [EAST]})) as api:
        listed = against(api, "cluster", "list")
        one = against(api, "cluster", "get", "east")
        none = against(api, "cluster", "get", "nowhere")

    assert (listed.code, one.code, none.code) == (0, 0, 7), listed.err
    assert listed.out.splitlines()[1].split()[:3] == ["east", "UNHEALTHY", "racks"]
    assert "H100 3/8, 1 emulated kinds" in listed.out
    assert "nobody answers" in listed.out
    assert "ON-PREM.GPU.H100_1x" in one.out
    assert "docker.url" in one.out
    assert "gpufn cluster list" in none.err
    assert api.sent("GET", "/clusters").headers["authorization"] == "Bearer a-token"
