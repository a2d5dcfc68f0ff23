"""Secrets on their way to instances, in virtual time."""

from __future__ import annotations

import json

import pytest
from control_world import ControlWorld, a_spec, a_version, control

from gpufn.compute.fake import FakeBackend
from gpufn.model.ids import InstanceId
from gpufn.model.secret import Secret, version_place
from gpufn.store import secrets

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
