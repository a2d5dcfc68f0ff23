"""Secrets on their way to instances, in virtual time."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from control_world import BEGIN, ControlWorld, a_spec, a_version, control

from gpufn.compute.backend import Login
from gpufn.compute.fake import FakeBackend
from gpufn.model.ids import AccountId, InstanceId, RegistryCredentialId, new_id
from gpufn.model.registry import ArtifactType, Provisioner, RegistryCredential
from gpufn.model.secret import Secret, registry_place, telemetry_place, version_place
from gpufn.store import registries, secrets, telemetries
from gpufn.store.database import Transaction

pytestmark = pytest.mark.looptime


async def put(world: ControlWorld, *, hint: bool = True, **values: str) -> None:
    """What PUT secrets writes."""
    place = version_place(world.version.nca_id, world.version.id)
    sealed = [world.context.keyring.seal(place, Secret(name, value)) for name, value in values.items()]
    await world.context.db.run(lambda tx: secrets.put(tx, sealed))
    if hint:
        world.context.hints.hint("secret", world.version.id)


def found(world: ControlWorld, instance_id: InstanceId) -> object:
    """What an instance reads in its secrets.json; None where there is no such file."""
    text = world.backend.secrets[instance_id].get("secrets.json")
    return None if text is None else json.loads(text)


async def test_an_instance_has_its_secrets_before_it_starts() -> None:
    """They are part of the launch."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await put(world, token="1")
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")

        assert [dict(r.secrets) for r in world.backend.launches] == [{"secrets.json": '{"token": "1"}'}] * 2


async def test_a_change_reaches_every_running_instance_without_a_restart() -> None:
    """Within a second, and nothing is launched for it."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await put(world, token="1", other="x")
        await world.deploy(a_spec(2, 2))
        await world.until_status("ACTIVE")

        await put(world, token="2")

        ids = [i.id for i in await world.live()]
        took = await world.until(lambda: all(found(world, i) == {"other": "x", "token": "2"} for i in ids))
        assert took < 1.0
        assert len(world.backend.launches) == 2


async def test_a_change_whose_hint_was_lost_arrives_with_the_resync() -> None:
    """The relisting makes it true."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await put(world, token="1")
        await world.deploy()
        await world.until_status("ACTIVE")

        await put(world, hint=False, token="2")

        (instance,) = await world.live()
        await world.until(lambda: found(world, instance.id) == {"token": "2"}, within=31.0)


async def test_a_version_without_secrets_gets_no_file() -> None:
    """Nothing is delivered where there is nothing."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        await world.deploy()
        await world.until_status("ACTIVE")

        (instance,) = await world.live()
        assert found(world, instance.id) is None


async def test_a_secret_that_cannot_be_opened_fails_the_instance_with_the_reason() -> None:
    """A tampered row never becomes a running instance without its secret."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        stolen = world.context.keyring.seal("accounts/other/versions/v", Secret("token", "1"))
        place = version_place(world.version.nca_id, world.version.id)
        moved = type(stolen)(place, stolen.name, stolen.master, stolen.wrapped, stolen.sealed)
        await world.context.db.run(lambda tx: secrets.put(tx, [moved]))

        await world.deploy()
        await world.until_status("ERROR")

        assert world.backend.launches == []
        assert "token" in ((await world.deployment()).failure or "")


async def test_the_account_s_secrets_that_a_version_uses_come_in_a_file_of_their_own() -> None:
    """Those of its telemetry endpoints, by their names."""
    async with control(FakeBackend()) as world:
        await world.create(a_version())
        place = telemetry_place(world.version.nca_id, "t1")
        sealed = world.context.keyring.seal(place, Secret("grafana", {"apiKey": "k"}))

        def write(tx: Transaction) -> None:
            secrets.put(tx, [sealed])
            telemetries.use(tx, world.version.id, ["t1"])

        await world.context.db.run(write)
        await world.deploy()
        await world.until_status("ACTIVE")

        assert dict(world.backend.launches[0].secrets) == {"accounts-secrets.json": '{"grafana": {"apiKey": "k"}}'}


async def test_an_image_is_fetched_with_the_account_s_credentials_for_its_registry() -> None:
    """Those of that very host and of that account, for containers; the last changed first; no value in the record."""
    async with control(FakeBackend()) as world:
        await world.create(a_version("nvcr.io/acme/echo:1"))
        await world.context.db.run(lambda tx: _keep(tx, world, "nvcr.io", "old", at=0))
        await world.context.db.run(lambda tx: _keep(tx, world, "nvcr.io", "new", at=1))
        await world.context.db.run(lambda tx: _keep(tx, world, "docker.io", "hub", at=2))
        await world.context.db.run(lambda tx: _keep(tx, world, "nvcr.io", "chart", at=3, kind=ArtifactType.HELM))
        await world.context.db.run(lambda tx: _keep(tx, world, "nvcr.io", "foreign", at=4, nca_id="other"))

        await world.deploy()
        await world.until_status("ACTIVE")

        (request,) = world.backend.launches
        assert request.logins == (Login("nvcr.io", "$oauthtoken", "new"), Login("nvcr.io", "$oauthtoken", "old"))
        assert "new" not in repr(request)


def _keep(
    tx: Transaction,
    world: ControlWorld,
    host: str,
    password: str,
    *,
    at: int,
    kind: ArtifactType = ArtifactType.CONTAINER,
    nca_id: str | None = None,
) -> None:
    owner = AccountId(nca_id or world.version.nca_id)
    moment = BEGIN + timedelta(seconds=at)
    credential = RegistryCredential(
        id=RegistryCredentialId(new_id()),
        nca_id=owner,
        name=password,
        hostname=host,
        artifact_types=(kind,),
        tags=(),
        description=None,
        provisioned_by=Provisioner.USER,
        legacy_key=False,
        created_at=moment,
        updated_at=moment,
    )
    registries.insert(tx, credential)
    value = base64.b64encode(f"$oauthtoken:{password}".encode()).decode()
    secrets.put(tx, [world.context.keyring.seal(registry_place(owner, credential.id), Secret(password, value))])
