"""What is written is read back, and what somebody else changed is not overwritten: over a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.errors import Fatal, NotFound, Stale, Unavailable
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId, new_id
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.store import accounts, deployments, functions, instances
from gpufn.store.accounts import Account
from gpufn.store.database import Sqlite, Transaction
from gpufn.store.migrate import upgrade
from gpufn.store.tables import gpu_specifications

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Sqlite]:
    """A migrated database file with the account."""
    database = Sqlite(tmp_path / "gpufn.db")
    upgrade(database)
    await database.run(lambda tx: accounts.ensure(tx, Account(DEFAULT_ACCOUNT, "default", NOW)))
    yield database
    await database.close()


def a_version() -> FunctionVersion:
    """A version of a function of its own."""
    definition = Definition(inference_url="echo", health=Health(), container_image="echo")
    return FunctionVersion(
        VersionId(new_id()), FunctionId(new_id()), DEFAULT_ACCOUNT, "echo", definition, created_at=NOW
    )


def a_deployment(version: FunctionVersion) -> Deployment:
    """A deployment with one specification."""
    spec = GpuSpecification(SpecificationId(new_id()), "H100", "type", 1, 2)
    ids = (DeploymentId(new_id()), version.id, version.function_id, DEFAULT_ACCOUNT)
    return Deployment(*ids, DeploymentWanted.UP, (spec,), NOW, NOW)


def an_instance(deployment: Deployment) -> Instance:
    """A pending instance of the deployment."""
    return Instance(
        id=InstanceId(new_id()),
        deployment_id=deployment.id,
        specification_id=deployment.specifications[0].id,
        version_id=deployment.version_id,
        function_id=deployment.function_id,
        nca_id=DEFAULT_ACCOUNT,
        gpu="H100",
        instance_type="type",
        created_at=NOW,
        updated_at=NOW,
    )


def insert_all(tx: Transaction, version: FunctionVersion, deployment: Deployment, instance: Instance) -> None:
    """Record all three."""
    functions.insert(tx, version)
    deployments.insert(tx, deployment)
    instances.insert(tx, instance)


async def test_everything_is_read_back_as_written(db: Sqlite) -> None:
    """A version, a deployment with its specification and an instance survive the way through the file."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    assert await db.run(lambda tx: functions.get(tx, DEFAULT_ACCOUNT, version.function_id, version.id)) == version
    assert await db.run(lambda tx: deployments.get(tx, deployment.id)) == deployment
    assert await db.run(lambda tx: instances.get(tx, instance.id)) == instance
    assert await db.run(lambda tx: functions.count(tx, DEFAULT_ACCOUNT)) == 1


async def test_a_second_writer_is_stale(db: Sqlite) -> None:
    """Of two writers that read the same revision the second is refused, for each kind of row."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    await db.run(lambda tx: functions.save(tx, version))
    await db.run(lambda tx: deployments.save(tx, deployment))
    await db.run(lambda tx: instances.save(tx, instance))
    with pytest.raises(Stale):
        await db.run(lambda tx: functions.save(tx, version))
    with pytest.raises(Stale):
        await db.run(lambda tx: deployments.save(tx, deployment))
    with pytest.raises(Stale):
        await db.run(lambda tx: instances.save(tx, instance))


async def test_deleting_a_deployment_takes_its_specifications_and_leaves_its_instances(db: Sqlite) -> None:
    """Specifications go with their deployment; an instance outlives it until it has drained."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    await db.run(lambda tx: deployments.delete(tx, deployment.id))
    assert await db.run(lambda tx: tx.execute(gpu_specifications.select()).all()) == []
    assert await db.run(instances.live_ids) == [instance.id]


async def test_ids_that_do_not_belong_together_are_not_found(db: Sqlite) -> None:
    """A version under another function's id is NotFound, as is a function without versions."""
    version = a_version()
    await db.run(lambda tx: functions.insert(tx, version))
    with pytest.raises(NotFound):
        await db.run(lambda tx: functions.get(tx, DEFAULT_ACCOUNT, new_id(), version.id))
    with pytest.raises(NotFound):
        await db.run(lambda tx: functions.of_function(tx, DEFAULT_ACCOUNT, new_id()))


async def test_more_ids_than_one_statement_holds(db: Sqlite) -> None:
    """Deployments and instances of 501 versions are all found."""
    chosen = [a_version() for _ in range(501)]

    def fill(tx: Transaction) -> None:
        for version in chosen:
            deployment = a_deployment(version)
            insert_all(tx, version, deployment, an_instance(deployment))

    await db.run(fill)
    wanted = [v.id for v in chosen]
    assert set(await db.run(lambda tx: deployments.of_versions(tx, wanted))) == set(wanted)
    assert set(await db.run(lambda tx: instances.of_versions(tx, wanted))) == set(wanted)


async def test_retiring_twice_changes_nothing_the_second_time(db: Sqlite) -> None:
    """The first retirement counts as a change of the row, the second does not."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    retired = replace(instance, wanted=False, revision=1)
    for _ in range(2):
        await db.run(lambda tx: instances.retire(tx, [instance.id]))
        assert await db.run(lambda tx: instances.get(tx, instance.id)) == retired
    assert retired.status is InstanceStatus.PENDING


async def test_a_full_database_is_unavailable_and_unchanged(db: Sqlite) -> None:
    """When nothing more fits the write is refused with the remedy, and none of it is kept."""

    def fill(tx: Transaction) -> None:
        for _ in range(2000):
            functions.insert(tx, a_version())

    pages = await db.run(lambda tx: tx.exec_driver_sql("PRAGMA page_count").scalar_one())
    await db.run(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").scalar_one())
    with pytest.raises(Unavailable, match="free some space"):
        await db.run(fill)
    assert await db.run(lambda tx: functions.count(tx, DEFAULT_ACCOUNT)) == 0


async def test_a_file_that_is_no_database_is_fatal(tmp_path: Path) -> None:
    """Garbage in place of the database ends the start with exit code 4."""
    path = tmp_path / "gpufn.db"
    path.write_bytes(b"this is no database" * 500)
    database = Sqlite(path)
    with pytest.raises((Fatal,)) as caught:
        upgrade(database)
    assert caught.value.exit_code == 4
    await database.close()
