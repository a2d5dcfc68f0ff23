"""Why a request is where it is: answered by the gateway that has it, passed on to control otherwise."""

from __future__ import annotations

import asyncio
import json

from gateway_fakes import Seen, answer, read_body
from gateway_world import PINNED, V, a_key, a_world

WISHED = "abcdefab-1111-4111-8111-111111111111"


async def test_a_request_says_what_it_waits_for() -> None:
    """By its id alone or with its kind, in the words of a 504; for its own account and scope only."""
    async with a_world() as world:
        await world.deploy(note="1 instance starting: pulling 41 %", starting=1)
        world.control.publish("other", a_key("other", nca_id="other"))
        world.control.publish("scopeless", a_key("scopeless", scopes=("invoke_function",)))
        client = await world.client()
        await client.send("POST", PINNED, {"gpufn-invocation-id": WISHED})
        await world.until(lambda: "queued=1" in repr(world.gateway))
        short = json.loads((await world.call("GET", f"/v2/gpufn/why/{WISHED}")).body)
        long = json.loads((await world.call("GET", f"/v2/gpufn/why/request/{WISHED.upper()}")).body)
        codes = [
            (await world.call("GET", f"/v2/gpufn/why/{WISHED}", {"Authorization": f"Bearer {key}"})).status
            for key in ("other", "scopeless")
        ]
        may_answer = asyncio.Event()

        async def patient(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_body(reader, seen)
            await may_answer.wait()
            writer.write(answer())

        await world.deploy(await world.instance(patient))
        await world.until(lambda: "in_flight=1" in repr(world.gateway))
        running = json.loads((await world.call("GET", f"/v2/gpufn/why/{WISHED}")).body)
        may_answer.set()
        await client.answer()

    assert short == long
    assert (short["kind"], short["id"]) == ("request", WISHED)
    assert short["sentence"] == (
        "the request is starting: at position 1 of 1; 0 instances ready, 1 starting; 1 instance starting: pulling 41 %"
    )
    assert {"name": "version", "value": V} in short["facts"]
    assert codes == [404, 403]
    assert running["sentence"].startswith("the request is running: an instance has the request")


async def test_what_no_gateway_knows_is_for_control() -> None:
    """An id that is no live request's may be a function's, a deployment's or an instance's."""
    async with a_world() as world:
        found = await world.call("GET", f"/v2/gpufn/why/{WISHED}")

    assert (found.status, json.loads(found.body)) == (200, {"from": "control"})
