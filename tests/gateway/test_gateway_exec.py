"""The exec form: request and response in JSON envelopes (invocation-plane page, sections 4.4 and 24)."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from gateway_fakes import Handler, Seen, answer, read_body
from gateway_world import ABSENT, PEXEC, PINNED, V, a_key, a_world

EXEC = PEXEC.replace("pexec", "exec")
EXEC_PINNED = PINNED.replace("pexec", "exec")
STATUS = "/v2/nvcf/exec/status/"


def a_request(body: object = None, **header: object) -> bytes:
    return json.dumps({"requestBody": body, "requestHeader": header}).encode()


def answering(status: int, body: bytes, *lines: str) -> Handler:
    """An instance that always answers like that."""

    async def handle(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.body = await read_body(reader, seen)
        writer.write(answer(status, body, *lines))

    return handle


async def test_exec() -> None:
    """The body inside reaches the instance as JSON, its answer the client in an envelope, without nvcf headers."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        for path in (EXEC, EXEC_PINNED, "/v2/orgs/o" + EXEC.removeprefix("/v2")):
            found = await world.call(
                "POST", path, {"X-Own": "v", "Accept": "text/event-stream"}, b'{"requestBody":{"abc":123}}'
            )
            assert (found.status, found["content-type"]) == (200, "application/json")
            told = json.loads(found.body)
            assert uuid.UUID(told.pop("reqId")).version == 4
            assert told == {"status": "fulfilled", "percentComplete": 100, "response": {"abc": 123}}
            assert b"null" not in found.body
            assert not [name for name, _ in found.lines if name.lower().startswith("nvcf-")]
            seen = world.servers[0].seen[-1]
            assert (seen.body, seen.one("content-type"), seen.one("x-own")) == (
                b'{"abc":123}', "application/json", None,
            )  # fmt: skip
            assert (seen.one("accept"), seen.one("authorization")) == (None, None)
        assert world.is_quiet


async def test_exec_poll() -> None:
    """A call longer than its window is 202 in-progress, exec/status waits for the result; a second poll is unknown."""
    opened = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await opened.wait()
        writer.write(answer(200, b'{"late":1}'))

    async with a_world() as world:
        await world.deploy(await world.instance(slow))
        begun = await world.call("POST", EXEC, None, a_request({}, pollDurationSeconds=1))
        told = json.loads(begun.body)
        assert (begun.status, told) == (202, {"reqId": told["reqId"], "status": "in-progress"})
        poller = await world.client()
        await poller.send("GET", STATUS + told["reqId"], {"NVCF-POLL-SECONDS": "garbage"})
        opened.set()
        found = await poller.answer("GET")
        assert (found.status, json.loads(found.body)["response"]) == (200, {"late": 1})
        again = await world.call("GET", STATUS + told["reqId"])
        assert (again.status, again["content-type"]) == (404, "application/json")
        assert json.loads(again.body) == {"reqId": str(uuid.UUID(int=0)), "status": "errored", "errorCode": 404}
        assert world.is_quiet


async def test_a_poller_that_leaves_takes_nothing_with_it() -> None:
    """A client that leaves an exec poll, or an exec call, frees everything; the detached call goes on."""
    opened = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await opened.wait()
        writer.write(answer(200, b"[]"))

    async with a_world() as world:
        await world.deploy(await world.instance(slow), slots=2)
        begun = await world.call("POST", EXEC, None, a_request({}, pollDurationSeconds=1))
        request_id = json.loads(begun.body)["reqId"]
        poller, caller = await world.client(), await world.client()
        await poller.send("GET", STATUS + request_id)
        await caller.send("POST", EXEC, None, a_request({}))
        await world.until(lambda: len(world.servers[0].seen) == 2)
        poller.close()
        caller.close()
        await world.until(lambda: " in_flight=1 " in repr(world.gateway))
        opened.set()
        found = await world.call("GET", STATUS + request_id)
        assert (found.status, json.loads(found.body)["response"]) == (200, [])


@pytest.mark.parametrize(
    ("status", "body", "outer", "rest"),
    [(201, b"{}", 201, {"errorCode": 201}), (422, b'{"error":"no"}', 422, {"errorCode": 422, "detail": "no"}),
     (500, b"x", 500, {"errorCode": 500, "detail": "Inference error"})],
)  # fmt: skip
async def test_anything_but_200_is_errored(status: int, body: bytes, outer: int, rest: dict[str, object]) -> None:
    """Every other status is kept outside and as errorCode; the instance's body is lost, its message is told."""
    async with a_world() as world:
        await world.deploy(await world.instance(answering(status, body)))
        found = await world.call("POST", EXEC, None, a_request(1))
        told = json.loads(found.body)
        assert found.status == outer
        assert told == {"reqId": told["reqId"], "status": "errored"} | rest


async def test_redirects_and_empty_answers() -> None:
    """A 302 is a reference to the result; a 204 stays without a body."""
    async with a_world() as world:
        moved = await world.instance(answering(302, b"", "Location: https://x/y?z"))
        await world.deploy(moved)
        found = await world.call("POST", EXEC, None, a_request(1))
        told = json.loads(found.body)
        assert (found.status, told["status"], told["percentComplete"]) == (200, "fulfilled", 100)
        assert (told["responseReference"], "response" in told) == ("https://x/y?z", False)
        moved.handler = answering(204, b"")
        assert (await world.call("POST", EXEC, None, a_request(1))).status == 204


@pytest.mark.parametrize("body", [b"hello", b'{"a":NaN}', b"\xff", b"[" * 100_000])
async def test_an_answer_that_is_no_json_is_a_500(body: bytes) -> None:
    """What cannot be wrapped is said to be so, with the way out."""
    async with a_world() as world:
        await world.deploy(await world.instance(answering(200, body)))
        found = await world.call("POST", EXEC, None, a_request(1))
        assert (found.status, found["content-type"]) == (500, "application/problem+json")
        assert "use pexec" in json.loads(found.body)["detail"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [(b"{}", "requestBody"), (b"[]", "requestBody"), (b"{", "not JSON"), (b'{"requestBody":NaN}', "NaN"),
     (b"[" * 100_000, "not JSON"), (a_request(1, pollDurationSeconds="1"), "whole number"),
     (a_request(1, pollDurationSeconds=10_000), "failed to parse poll duration"),
     (a_request(1, inputAssetReferences=["abc"]), "UUIDs"), (b'{"requestBody":1,"requestHeader":[]}', "an object")],
)  # fmt: skip
async def test_exec_bad_body(body: bytes, detail: str) -> None:
    """A body that is no envelope is a 400 problem that says what is wrong with it."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        found = await world.call("POST", EXEC, None, body)
        assert (found.status, found["content-type"]) == (400, "application/problem+json")
        assert detail in json.loads(found.body)["detail"]


async def test_exec_body_collect_error() -> None:
    """A body that is too long or breaks is 400 'failed to collect request body'; for pexec it is 'to read'."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        long = await world.call("POST", EXEC, None, b" " * (2 * 1024 * 1024 + 1))
        assert (long.status, "failed to collect request body:" in long.body.decode()) == (400, True)
        chunked = {"Content-Length": "", "Transfer-Encoding": "chunked"}
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        client = await world.client()
        await client.send("POST", EXEC, chunked, piece * 3)
        assert "failed to collect request body:" in (await client.answer()).body.decode()
        for path, words in ((EXEC, "failed to collect request body: "), (PEXEC, "failed to read request body: ")):
            client = await world.client()
            await client.send("POST", path, chunked)
            await asyncio.sleep(0.05)
            client.writer.write(b"garbage\r\n")
            found = await client.answer()
            assert (found.status, json.loads(found.body)["detail"].startswith(words)) == (400, True)
            assert await client.closed()
        await world.until(lambda: world.is_quiet)


async def test_errors_before_the_call_are_problems() -> None:
    """What is refused before there is a call is answered as for pexec: credentials, ids, methods, access, queue."""
    async with a_world(queue_depth=0) as world:
        body = a_request(1)
        assert (await world.call("POST", EXEC, {"Authorization": ""}, body)).status == 401
        assert (await world.call("GET", EXEC)).status == 405
        assert (await world.call("POST", EXEC + "x", None, body)).status == 400
        assert (await world.call("POST", EXEC, None, body)).status == 404
        world.control.publish("weak", a_key("nvapi-weak", scopes=("queue_details",)))
        await world.deploy()
        weak = {"Authorization": "Bearer nvapi-weak"}
        assert (await world.call("POST", EXEC, weak, b"{}")).status == 400
        assert (await world.call("POST", EXEC, weak, body)).status == 403
        full = await world.call("POST", EXEC, {"Origin": "http://o"}, body)
        assert (full.status, full["content-type"]) == (429, "application/problem+json")
        assert full["access-control-allow-origin"] == "http://o"
        assert (await world.call("GET", STATUS + "x")).status == 400
        assert (await world.call("GET", STATUS + ABSENT, {"Authorization": "Bearer bad"})).status == 401


async def test_an_unanswered_exec_says_why() -> None:
    """A 504 is an envelope like any other error, with the reason as its detail."""
    async with a_world(poll_grace=0.1) as world:
        await world.deploy(starting=1, note="pulling")
        found = await world.call("POST", EXEC, None, a_request(1, pollDurationSeconds=1))
        told = json.loads(found.body)
        assert (found.status, told["status"], told["errorCode"]) == (504, "errored", 504)
        assert "pulling" in told["detail"]


async def test_a_response_above_the_limit_is_a_500() -> None:
    """A response too large to be wrapped is not collected without end, and its call is ended."""
    async with a_world(envelope_max_bytes=1000) as world:
        await world.deploy(await world.instance(answering(200, b'"' + b"x" * 5000 + b'"')))
        found = await world.call("POST", EXEC, None, a_request(1))
        assert (found.status, "larger than 1000 bytes" in found.body.decode()) == (500, True)
        assert world.is_quiet


async def test_preflight_of_exec() -> None:
    """Both exec routes answer a preflight without a key (conformance 69)."""
    async with a_world() as world:
        asked = {"Authorization": "", "Origin": "http://localhost", "Access-Control-Request-Method": "POST"}
        for path, allow in ((EXEC, "POST"), (EXEC_PINNED, "POST"), (STATUS + V, "GET,HEAD")):
            found = await world.call("OPTIONS", path, asked)
            assert (found.status, found["allow"], found["access-control-max-age"]) == (200, allow, "86400")
