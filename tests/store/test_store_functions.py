"""What is written is read back, and what somebody else changed is not overwritten: on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpufn.model.deployment import Deployment, DeploymentWanted, GpuSpecification
from gpufn.model.errors import NotFound, Stale
from gpufn.model.function import Definition, FunctionVersion, Health
from gpufn.model.ids import DEFAULT_ACCOUNT, DeploymentId, FunctionId, InstanceId, SpecificationId, VersionId, new_id
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.store import deployments, functions, instances
from gpufn.store.database import Database, Transaction
from gpufn.store.tables import gpu_specifications

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


async def test_everything_is_read_back_as_written(db: Database) -> None:
    """A version, a deployment with its specification and an instance survive the way through the file."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    assert await db.run(lambda tx: functions.get(tx, DEFAULT_ACCOUNT, version.function_id, version.id)) == version
    assert await db.run(lambda tx: deployments.get(tx, deployment.id)) == deployment
    assert await db.run(lambda tx: instances.get(tx, instance.id)) == instance
    assert await db.run(lambda tx: functions.count(tx, DEFAULT_ACCOUNT)) == 1


async def test_a_second_writer_is_stale(db: Database) -> None:
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


async def test_deleting_a_deployment_takes_its_specifications_and_leaves_its_instances(db: Database) -> None:
    """Specifications go with their deployment; an instance outlives it until it has drained."""
    version = a_version()
    deployment = a_deployment(version)
    instance = an_instance(deployment)
    await db.run(lambda tx: insert_all(tx, version, deployment, instance))
    await db.run(lambda tx: deployments.delete(tx, deployment.id))
    assert await db.run(lambda tx: tx.execute(gpu_specifications.select()).all()) == []
    assert await db.run(instances.live_ids) == [instance.id]


async def test_ids_that_do_not_belong_together_are_not_found(db: Database) -> None:
    """A version under another function's id is NotFound, as is a function without versions."""
    version = a_version()
    await db.run(lambda tx: functions.insert(tx, version))
    with pytest.raises(NotFound):
        await db.run(lambda tx: functions.get(tx, DEFAULT_ACCOUNT, new_id(), version.id))
    with pytest.raises(NotFound):
        await db.run(lambda tx: functions.of_function(tx, DEFAULT_ACCOUNT, new_id()))


async def test_more_ids_than_one_statement_holds(db: Database) -> None:
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


async def test_retiring_twice_changes_nothing_the_second_time(db: Database) -> None:
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
