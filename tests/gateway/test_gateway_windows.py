"""What happens when a call takes longer than its window: 504, 202, polls, abandonment (sections 7 and 24)."""

from __future__ import annotations

import asyncio
import json
import uuid

from gateway_fakes import Seen, Server, answer, read_body
from gateway_world import ABSENT, PEXEC, PINNED, F, V, World, a_key, a_world

ONE = {"NVCF-POLL-SECONDS": "1"}


class Gate:
    """An instance that answers when told to."""

    def __init__(self, status: int = 200, body: bytes = b'{"late":1}') -> None:
        self.open = asyncio.Event()
        self.status, self.body = status, body
        self.cut = 0

    async def __call__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        opened = asyncio.get_running_loop().create_task(self.open.wait())
        closed = asyncio.get_running_loop().create_task(reader.read(1))
        await asyncio.wait({opened, closed}, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            self.cut += 1
            writer.close()
        else:
            writer.write(answer(self.status, self.body, "Content-Type: application/json", "x-own: 1"))
        for task in (opened, closed):
            task.cancel()
        await asyncio.gather(opened, closed, return_exceptions=True)


def status_of(request_id: str) -> str:
    return f"/v2/nvcf/pexec/status/{request_id}"


async def a_detached_call(world: World, gate: Gate) -> str:
    """A call that was answered 202; its request id."""
    await world.deploy(await world.instance(gate))
    found = await world.call("POST", PINNED, ONE)
    assert (found.status, found.body, found["content-length"]) == (202, b"", "0")
    assert found["nvcf-status"] == "in-progress"
    return found["nvcf-reqid"]


async def test_no_instance_is_a_504_with_the_reason() -> None:
    """A call that nobody serves ends within window and grace, saying why; an instance that comes later gets nothing."""
    async with a_world(poll_grace=0.2) as world:
        await world.deploy(starting=1, note="pulling image 41 %")
        began = asyncio.get_running_loop().time()
        found = await world.call("POST", PINNED, ONE)
        assert 1.1 < asyncio.get_running_loop().time() - began < 2.0
        assert (found.status, found["nvcf-status"]) == (504, "errored")
        assert uuid.UUID(found["nvcf-reqid"]).version == 4
        detail = json.loads(found.body)["detail"]
        assert "starting: at position 1 of 1; 0 instances ready, 1 starting; pulling image 41 %" in detail
        await world.deploy(await world.instance())
        assert world.servers[0].seen == []


async def test_all_slots_busy_is_a_504() -> None:
    """A queued call is never answered 202: it leaves the queue with 504 while the one that runs goes on."""
    async with a_world(poll_grace=0.2) as world:
        gate = Gate()
        await world.deploy(await world.instance(gate))
        running = await world.client()
        await running.send("POST", PINNED)
        await world.until(lambda: len(world.servers[0].seen) == 1)
        found = await world.call("POST", PINNED, ONE)
        assert (found.status, "queued: at position 1 of 1" in found.body.decode()) == (504, True)
        gate.open.set()
        assert (await running.answer()).status == 200
        assert len(world.servers[0].seen) == 1


async def test_direct_and_sse_calls_are_not_detached() -> None:
    """Outside compatibility mode there is no 202: without a response head the call ends with 504 and is cancelled."""
    async with a_world(poll_grace=0.2) as world:
        gate = Gate()
        await world.deploy(await world.instance(gate), slots=2)
        sse, direct = await asyncio.gather(
            world.call("POST", PINNED, ONE | {"Accept": "text/event-stream"}),
            world.call("POST", "/x", ONE | {"Host": f"{F}.localhost"}),
        )
        assert (sse.status, direct.status) == (504, 504)
        assert "running" in sse.body.decode()
        await world.until(lambda: gate.cut == 2)
        assert world.is_quiet


async def test_poll_gets_the_result_once() -> None:
    """A poll waits for the result, gets it with status, type and id; the next poll is 404 without detail."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        client = await world.client()
        await client.send("GET", status_of(request_id))
        gate.open.set()
        found = await client.answer("GET")
        assert (found.status, found.body, found["content-type"]) == (200, b'{"late":1}', "application/json")
        assert (found["nvcf-reqid"], found["nvcf-status"], found["x-own"]) == (request_id, "fulfilled", "1")
        again = await world.call("GET", status_of(request_id))
        assert (again.status, json.loads(again.body)) == (404, {"status": 404, "title": "Not Found"})
        assert world.is_quiet


async def test_result_is_kept_while_nobody_polls() -> None:
    """A result that comes between polls frees its slot and is returned at once by the next poll."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        assert not world.is_quiet
        gate.open.set()
        await world.until(lambda: world.is_quiet)
        found = await world.call("GET", status_of(request_id), ONE)
        assert (found.status, found.body) == (200, b'{"late":1}')


async def test_poll_that_ends_is_202_again() -> None:
    """A poll whose own window ends is answered 202, and the call goes on; a HEAD poll has no body."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        found = await world.call("GET", status_of(request_id), ONE)
        assert (found.status, found["nvcf-reqid"]) == (202, request_id)
        gate.open.set()
        await world.until(lambda: world.is_quiet)
        found = await world.call("HEAD", status_of(request_id))
        assert (found.status, found.body, found["content-length"]) == (200, b"", "10")


async def test_poller_that_leaves_cancels_nothing() -> None:
    """A client that disconnects from a poll leaves the call running for the next one."""
    async with a_world() as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        client = await world.client()
        await client.send("GET", status_of(request_id))
        await asyncio.sleep(0.05)
        client.close()
        await asyncio.sleep(0.05)
        gate.open.set()
        assert (await world.call("GET", status_of(request_id))).status == 200
        assert gate.cut == 0


async def test_late_error_is_a_problem_too() -> None:
    """An error that comes after the 202 reaches the poll as a problem; so does the last instance that dies."""
    async with a_world(attempts=1) as world:
        gate = Gate(422, b'{"error":"no"}')
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        found = await world.call("GET", status_of(request_id))
        assert (found.status, json.loads(found.body)["detail"]) == (422, "no")
        gate.open.clear()
        found = await world.call("POST", PINNED, ONE)
        await world.servers[0].stop()
        late = await world.call("GET", status_of(found["nvcf-reqid"]))
        assert (late.status, json.loads(late.body)["type"].split(":")[1]) == (500, "inference-connection")


async def test_too_large_a_result_says_so() -> None:
    """A result above the limit is an error that names the limit, and nothing of it is kept."""
    async with a_world(result_max_bytes=100) as world:
        gate = Gate(200, bytes(101))
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: world.is_quiet)
        found = await world.call("GET", status_of(request_id))
        assert (found.status, "larger than 100 bytes" in found.body.decode()) == (500, True)


async def test_unknown_finished_and_foreign_polls() -> None:
    """Unknown ids and calls answered at once are 404; a key without access is refused and consumes nothing."""
    async with a_world() as world:
        world.control.publish("other", a_key("other", nca_id="other"))
        world.control.publish("narrow", a_key("narrow", resources=()))
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        gate.open.set()
        await world.until(lambda: world.is_quiet)
        assert (await world.call("GET", status_of(ABSENT))).status == 404
        assert (await world.call("GET", status_of("nope"))).status == 400
        found = await world.call("POST", PINNED)
        assert found.status == 200
        assert (await world.call("GET", status_of(found["nvcf-reqid"]))).status == 404
        for key, status in (("other", 404), ("narrow", 403)):
            refused = await world.call("GET", status_of(request_id), {"Authorization": f"Bearer {key}"})
            assert refused.status == status
        bad = await world.call("GET", status_of(request_id), {"NVCF-POLL-SECONDS": "x"})
        assert (bad.status, "failed to parse poll duration" in bad.body.decode()) == (400, True)
        assert (await world.call("GET", status_of(request_id))).status == 200


async def test_abandoned_call_is_cancelled() -> None:
    """By the reference's rule a call nobody asks for is cancelled; every poll is then told so, without its id."""
    async with a_world(abandon="reference") as world:
        gate = Gate()
        request_id = await a_detached_call(world, gate)
        plane = world.gateway._plane
        plane.deadlines.advance(asyncio.get_running_loop().time() + 10.1)
        await world.until(lambda: gate.cut == 1)
        assert world.is_quiet
        for _ in range(2):
            found = await world.call("GET", status_of(request_id))
            assert (found.status, "nvcf-reqid" in found) == (504, False)
            assert json.loads(found.body)["detail"] == "worker did not acknowledge the status request."


async def test_full_queue_is_429() -> None:
    """One more than the queue holds is refused at once with Retry-After; the others wait on."""
    async with a_world(queue_depth=10, poll_grace=0.2) as world:
        await world.deploy()
        found = await asyncio.gather(*(world.call("POST", PINNED, ONE) for _ in range(11)))
        assert sorted(answer.status for answer in found) == [429] + [504] * 10
        (full,) = [answer for answer in found if answer.status == 429]
        assert "maximum messages exceeded" in json.loads(full.body)["detail"]
        assert (full["retry-after"], "nvcf-reqid" in full) == ("1", False)


async def test_queued_call_is_served_when_an_instance_comes() -> None:
    """A call that finds no instance is reported at once, waits, and is served when one comes."""
    async with a_world() as world:
        await world.deploy()
        client = await world.client()
        await client.send("POST", PINNED, {}, b"hello")
        await world.until(lambda: any(V in r.versions and r.versions[V].queued == 1 for r in world.control.reports))
        await world.deploy(await world.instance())
        assert (await client.answer()).body == b"hello"


async def test_undeploy_ends_what_is_queued() -> None:
    """When a version is undeployed, queued calls end with 404 and a failed one with 503, what runs finishes."""
    async with a_world() as world:
        gate = Gate()
        await world.deploy(await world.instance(gate))
        running, queued = await world.client(), await world.client()
        await running.send("POST", PINNED)
        await world.until(lambda: len(world.servers[0].seen) == 1)
        await queued.send("POST", PINNED)
        await world.until(lambda: "queued=1" in repr(world.gateway))
        await world.undeploy()
        found = await queued.answer()
        assert (found.status, "undeployed" in found.body.decode()) == (404, True)
        gate.open.set()
        assert (await running.answer()).status == 200
        await world.deploy()
        waiting = await world.client()
        await waiting.send("POST", PINNED)
        await world.until(lambda: "queued=1" in repr(world.gateway))
        await world.deploy(status="ERROR", note="image cannot be pulled")
        found = await waiting.answer()
        assert (found.status, "image cannot be pulled" in found.body.decode()) == (503, True)


async def test_graceful_undeploy_serves_the_queue() -> None:
    """A draining version takes nothing new and serves what is queued."""
    async with a_world() as world:
        gate = Gate()
        server = await world.instance(gate)
        await world.deploy(server)
        clients = [await world.client() for _ in range(3)]
        for client in clients:
            await client.send("POST", PINNED)
        await world.until(lambda: "queued=2" in repr(world.gateway))
        await world.deploy(server, status="INACTIVE", draining=True)
        assert (await world.call("POST", PINNED)).status == 404
        gate.open.set()
        assert [(await client.answer()).status for client in clients] == [200, 200, 200]


async def test_instance_that_leaves_keeps_its_slot_until_it_ends() -> None:
    """An instance off the route finishes what it has, gets nothing new, and its slot counts until then."""
    async with a_world() as world:
        gate = Gate()
        server = await world.instance(gate)
        await world.deploy(server)
        first, second = await world.client(), await world.client()
        await first.send("POST", PINNED)
        await world.until(lambda: len(server.seen) == 1)
        await world.deploy()
        await second.send("POST", PINNED)
        await world.until(lambda: "queued=1 in_flight=1" in repr(world.gateway))
        await world.deploy(server)
        await asyncio.sleep(0.02)
        assert server.peak == 1
        gate.open.set()
        assert ((await first.answer()).status, (await second.answer()).status) == (200, 200)
        assert server.peak == 1


async def test_position_in_the_queue() -> None:
    """A call can be asked for its place from the moment it is queued, by its account, with the right scope."""
    async with a_world() as world:
        await world.deploy(note="pulling")
        world.control.publish("other", a_key("other", nca_id="other"))
        world.control.publish("scopeless", a_key("scopeless", scopes=("invoke_function",)))
        clients = [await world.client() for _ in range(2)]
        wished = "abcdefab-1111-4111-8111-111111111111"
        await clients[0].send("POST", PINNED)
        await clients[1].send("POST", PINNED, {"gpufn-invocation-id": wished.upper()})
        await world.until(lambda: "queued=2" in repr(world.gateway))
        where = f"/v2/nvcf/queues/{wished}/position"
        body = json.loads((await world.call("GET", where)).body)
        assert (body["functionId"], body["functionVersionId"], body["positionInQueue"]) == (F, V, 2)
        assert (body["phase"], "pulling" in body["detail"]) == ("starting", True)
        for key, status in (("other", 404), ("scopeless", 403)):
            assert (await world.call("GET", where, {"Authorization": f"Bearer {key}"})).status == status
        assert (await world.call("GET", f"/v2/nvcf/queues/{ABSENT}/position")).status == 404
        taken = await world.call("POST", PINNED, {"gpufn-invocation-id": wished})
        assert taken.status == 409
        assert (await world.call("POST", PINNED, {"gpufn-invocation-id": "x"})).status == 400
        gate = Gate()
        await world.deploy(await world.instance(gate), slots=2)
        await world.until(lambda: "queued=0 in_flight=2" in repr(world.gateway))
        body = json.loads((await world.call("GET", where)).body)
        assert (body["positionInQueue"], body["phase"]) == (0, "running")
        gate.open.set()
        assert (await clients[1].answer())["nvcf-reqid"] == wished


async def test_load_reports_tell_who_serves() -> None:
    """While a call runs the report names its instance; afterwards the version is left out."""
    async with a_world() as world:
        gate = Gate()
        server: Server = await world.instance(gate)
        await world.deploy(server)
        client = await world.client()
        await client.send("POST", PEXEC)
        reports = world.control.reports
        await world.until(lambda: bool(reports) and reports[-1].versions.get(V) is not None)
        load = reports[-1].versions[V]
        assert (load.in_flight, load.queued, load.busy) == (1, 0, {f"i-{server.port}": 1})
        assert (reports[-1].gateway, reports[-1].seq) == ("gw-test", world.control.seq)
        gate.open.set()
        await client.answer()
        await world.until(lambda: reports[-1].versions == {})


async def test_a_call_that_is_too_short_to_be_seen_is_reported() -> None:
    """A call that begins and ends between two reports is counted, so that what is used now and then is not idle."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        for _ in range(3):
            await client.send("POST", PEXEC)
            await client.answer()
        reports = world.control.reports
        await world.until(lambda: any(V in r.versions and r.versions[V].served == 3 for r in reports))
        await world.until(lambda: reports[-1].versions == {})
