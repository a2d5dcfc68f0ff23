"""Invoking what another account shares (control-plane page, section 9; auth page, section 4.4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from gateway_fakes import Seen, answer, read_body
from gateway_world import ACCOUNT, PEXEC, PINNED, V2, V, a_key, a_known, a_world

from gpufn.wire.feed import KeyGrant

GUEST = {"Authorization": "Bearer nvapi-guest"}
SHARED = (("authorized-functions", "*"),)


def a_guest(*resources: tuple[str, str], scopes: Sequence[str] = ("invoke_function", "queue_details")) -> KeyGrant:
    return a_key("nvapi-guest", nca_id="guest", resources=resources or SHARED, scopes=tuple(scopes))


async def test_a_shared_function_is_invoked_by_the_other_account() -> None:
    """The guest is served, pinned or not, and the instance is told the guest's account; withdrawn, it is 404 again."""
    async with a_world() as world:
        world.control.publish("guest", a_guest())
        server = await world.instance()
        await world.deploy(server)
        before = await world.call("POST", PINNED, GUEST)
        await world.deploy(server, parties=("guest",))
        pinned, chosen = await world.call("POST", PINNED, GUEST), await world.call("POST", PEXEC, GUEST)
        direct = await world.call("POST", "/any", {**GUEST, "function-id": PEXEC.rsplit("/", 1)[1]})
        await world.deploy(server, parties=())
        after = await world.call("POST", PINNED, GUEST)

    assert [a.status for a in (before, pinned, chosen, direct, after)] == [404, 200, 200, 200, 404]
    assert server.seen[0].one("NVCF-NCAID") == "guest"
    assert "Not found for account 'guest'" in json.loads(after.body)["detail"]


@pytest.mark.parametrize(
    ("resources", "parties", "status"),
    [
        ((("account-functions", "*"),), ("guest",), 403),
        ((("function", f"{PEXEC.rsplit('/', 1)[1]}/*"),), ("guest",), 200),
        ((("function", f"{PEXEC.rsplit('/', 1)[1]}/{V2}"),), ("guest",), 403),
        ((("account-functions", "*"),), ("*",), 200),
        ((("account-functions", "*"),), ("somebody",), 404),
    ],
)
async def test_a_guest_needs_both_the_sharing_and_the_resource(
    resources: tuple[tuple[str, str], ...], parties: tuple[str, ...], status: int
) -> None:
    """account-functions does not reach what is shared; a public function needs no resource; unshared is unknown."""
    async with a_world() as world:
        world.control.publish("guest", a_guest(*resources))
        await world.deploy(await world.instance(), parties=parties)
        found = await world.call("POST", PINNED, GUEST)

    assert found.status == status


async def test_unpinned_calls_of_a_guest_stay_on_the_versions_that_are_shared() -> None:
    """Of two versions one is shared: the guest is never served by the other, the owner by both."""
    async with a_world() as world:
        world.control.publish("guest", a_guest())
        shared, kept = await world.instance(), await world.instance()
        await world.deploy(shared, parties=("guest",))
        await world.deploy(kept, version=V2)
        codes = [(await world.call("POST", PEXEC, GUEST)).status for _ in range(8)]
        refused = await world.call("POST", f"{PEXEC}/versions/{V2}", GUEST)

    assert codes == [200] * 8
    assert (len(kept.seen), refused.status) == (0, 404)


async def test_a_shared_version_that_is_not_deployed_says_so() -> None:
    """It is known to the guest, so the refusal is about its state, in the same words as for its owner."""
    async with a_world() as world:
        world.control.publish("guest", a_guest())
        world.control.publish(f"version:{V}", a_known().model_copy(update={"parties": ("guest",)}))
        await world.settled()
        guest, owner = await world.call("POST", PINNED, GUEST), await world.call("POST", PINNED)

    assert guest.status == owner.status == 404
    assert json.loads(guest.body)["detail"] == json.loads(owner.body)["detail"].replace(ACCOUNT, "guest")


async def test_a_guest_that_floods_the_queue_does_not_starve_the_owner() -> None:
    """In a full queue the flood gives way with 429 and Retry-After, and the two accounts are served in turn."""
    gate = asyncio.Event()
    order = []

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await gate.wait()
        order.append(seen.one("NVCF-NCAID"))
        writer.write(answer())

    async with a_world(queue_depth=6) as world:
        world.control.publish("guest", a_guest())
        await world.deploy(await world.instance(slow), parties=("guest",))
        flood = [await world.client() for _ in range(7)]
        for client in flood:
            await client.send("POST", PINNED, GUEST)
        await world.until(lambda: "queued=6" in repr(world.gateway))
        owner = [await world.client() for _ in range(3)]
        for client in owner:
            await client.send("POST", PINNED)
        refused = await asyncio.gather(*(client.answer() for client in flood[4:]))
        gate.set()
        served = await asyncio.gather(*(client.answer() for client in [*flood[:4], *owner]))

    assert [(r.status, r["retry-after"]) for r in refused] == [(429, "1")] * 3
    assert {s.status for s in served} == {200}
    assert order == ["guest", *["guest", ACCOUNT] * 3]
