"""Clusters in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpufn.model.cluster import Cluster, ClusterKind, ClusterMode, Connection, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, new_id
from gpufn.model.inventory import gpu
from gpufn.settings import DatabaseSettings
from gpufn.store import clusters, migrate
from gpufn.store.database import Sqlite, Transaction
from gpufn.store.opening import open_database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_cluster(name: str, kind: ClusterKind = ClusterKind.DOCKER) -> Cluster:
    return Cluster(
        id=new_id(),
        name=name,
        group_id=new_id(),
        group_name=name,
        region="lab",
        gpus=(gpu("ON-PREM", "H100", 2, memory_mib=81920),),
        nca_id=DEFAULT_ACCOUNT,
        kind=kind,
        connection=None if kind is ClusterKind.LOCAL else Connection("unix:///run/x", "127.0.0.1", "127.0.0.1"),
        attributes=("HostIsolation",),
        details={"clusterDescription": "a rack"},
    )


def round_trip(tx: Transaction) -> None:
    """Whatever is written is read again; definition, mode and health are written apart."""
    local, zebra, apple = a_cluster("zz", ClusterKind.LOCAL), a_cluster("zebra"), a_cluster("apple")
    for one in (zebra, local, apple):
        clusters.insert(tx, one)
    assert clusters.every(tx) == [local, apple, zebra]

    clusters.set_mode(tx, apple.id, ClusterMode.CORDON, NOW)
    silent = Health(NOW, failing_at=NOW, lost_at=NOW, problem="nobody answers")
    clusters.set_health(tx, apple.id, silent)
    clusters.define(tx, replace(apple, region="elsewhere"))
    after = clusters.get(tx, apple.id)
    assert after == replace(apple, region="elsewhere", mode=ClusterMode.CORDON, mode_at=NOW, health=silent)
    clusters.delete(tx, apple.id)
    assert clusters.get(tx, apple.id) is None


def renamed(tx: Transaction) -> None:
    """This machine under another name is the same machine; started again it keeps its maintenance."""
    first, second = a_cluster("old", ClusterKind.LOCAL), a_cluster("new", ClusterKind.LOCAL)
    clusters.ensure_local(tx, first)
    clusters.ensure_local(tx, second)
    assert [c.name for c in clusters.every(tx)] == ["new"]
    clusters.set_mode(tx, second.id, ClusterMode.CORDON, NOW)
    clusters.ensure_local(tx, replace(second, region="moved"))
    (kept,) = clusters.every(tx)
    assert (kept.mode, kept.region) == (ClusterMode.CORDON, "moved")


@pytest.mark.parametrize("check", [round_trip, renamed])
async def test_clusters_are_kept_in_sqlite(check: object, tmp_path: Path) -> None:
    """Round trip, and the local cluster through restarts."""
    database = Sqlite(tmp_path / "gpufn.db")
    migrate.upgrade(database)
    await database.run(check)  # type: ignore[arg-type]
    await database.close()


@pytest.mark.postgres
async def test_clusters_are_kept_in_postgresql(postgres_url: str) -> None:
    """The same on a server."""
    database = open_database(DatabaseSettings(postgres_url), Path("unused"))
    migrate.upgrade(database)
    await database.run(round_trip)
    await database.run(lambda tx: [clusters.delete(tx, c.id) for c in clusters.every(tx)])  # type: ignore[func-returns-value]
    await database.run(renamed)
    await database.close()
