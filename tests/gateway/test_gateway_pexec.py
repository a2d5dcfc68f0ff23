"""pexec: the checks of the invocation-plane page, section 24, over real sockets."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from gateway_fakes import Seen, answer, read_body
from gateway_world import ABSENT, KEY, PEXEC, PINNED, V2, Answer, F, V, a_key, a_known, a_world, gone, revoked

from gpufn.model.status import FunctionStatus

OWNED = [
    "NVCF-REQID", "NVCF-SUB", "NVCF-NCAID", "NVCF-FUNCTION-ID", "NVCF-FUNCTION-VERSION-ID", "NVCF-FUNCTION-NAME",
    "NVCF-ASSET-DIR", "NVCF-LARGE-OUTPUT-DIR", "NVCF-MAX-RESPONSE-SIZE-BYTES", "NVCF-BACKEND", "NVCF-INSTANCETYPE",
    "NVCF-REGION", "NVCF-ENV", "NVCF-NSPECTID", "NVCF-INVOCATION-REGION", "nvcf-poll-seconds",
]  # fmt: skip


def assert_trio(found: Answer, status: str) -> None:
    """The three header lines of every response to an accepted call."""
    assert str(uuid.UUID(found["nvcf-reqid"])) == found["nvcf-reqid"]
    assert found["nvcf-status"] == status
    assert "nvcf-reqid" in found.all("access-control-expose-headers")


def assert_problem(found: Answer, status: int, detail: str | None) -> None:
    """A problem of the gateway: no type, no trio."""
    assert (found.status, found["content-type"]) == (status, "application/problem+json")
    body = json.loads(found.body)
    assert "type" not in body
    assert body.get("detail") == detail
    assert "nvcf-reqid" not in found


def assert_worker_problem(found: Answer, status: int, kind: str, detail: str) -> None:
    """A problem about the instance: typed by its origin, with the trio."""
    body = json.loads(found.body)
    assert (found.status, body["status"], body["type"], body["detail"]) == (status, status, kind, detail)
    assert_trio(found, "errored")


async def test_pinned_version_answers_every_time() -> None:
    """A hundred calls of a pinned version are answered with its body, content type and exact length."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        client = await world.client()
        for _ in range(100):
            found = await client.call("POST", PINNED, {"Content-Type": "text/plain"}, b"a body")
            assert (found.status, found.body) == (200, b"a body")
            assert (found["content-type"], found["content-length"]) == ("text/plain", "6")
            assert_trio(found, "fulfilled")
        assert world.servers[0].connections == 1
        assert world.is_quiet


async def test_unpinned_calls_use_every_version() -> None:
    """Without a version the least loaded one serves, so that concurrent calls spread over both."""

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await asyncio.sleep(0.05)
        writer.write(answer())

    async with a_world() as world:
        await world.deploy(await world.instance(slow))
        await world.deploy(await world.instance(slow), version=V2)
        await asyncio.gather(*(world.call("POST", PEXEC) for _ in range(4)))
        assert [len(server.seen) for server in world.servers] == [2, 2]
        assert world.servers[0].seen[0].one("NVCF-FUNCTION-VERSION-ID") == V


async def test_unpinned_calls_one_after_the_other_use_every_version() -> None:
    """Of versions with equally little to do each has its turn, however many calls come one by one (conformance 2)."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await world.deploy(await world.instance(), version=V2)
        for _ in range(6):
            assert (await world.call("POST", PEXEC)).status == 200
        assert [len(server.seen) for server in world.servers] == [3, 3]


async def test_the_long_form_of_the_path_is_the_same() -> None:
    """/v2/orgs/{org}[/teams/{team}]/nvcf/pexec is /v2/nvcf/pexec."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        for prefix in ("/v2/orgs/o", "/v2/orgs/o/teams/t"):
            assert (await world.call("POST", f"{prefix}/nvcf/pexec/functions/{F}")).status == 200


async def test_container_sees_the_platforms_headers_once() -> None:
    """Every header of section 10.2 is there in its spelling with the platform's value; the client's copies are not."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        evil = {name: "evil" for name in OWNED if name != "nvcf-poll-seconds"}
        headers = evil | {"NVCF-POLL-SECONDS": "30", "x-user-header": "v", "Connection": "keep-alive, x-hop"}
        hop = {"x-hop": "1", "Keep-Alive": "5", "TE": "trailers", "Proxy-Authorization": "x", "Upgrade": "h2c"}
        found = await world.call("POST", PEXEC + "?query=dropped", headers | hop, b"{}")
        (seen,) = world.servers[0].seen
        names = [name for name, _ in seen.lines]
        assert [name for name in OWNED if names.count(name) != 1] == []
        assert "evil" not in [value for _, value in seen.lines]
        assert (seen.method, seen.target) == ("POST", "/infer")
        assert seen.one("NVCF-REQID") == found["nvcf-reqid"]
        assert seen.one("nvcf-poll-seconds") in ("29", "30")
        assert (seen.one("NVCF-SUB"), seen.one("NVCF-NCAID")) == ("tester", "nvcf-default")
        assert seen.one("NVCF-ASSET-DIR") == f"/var/inf/inputAssets/{found['nvcf-reqid']}"
        assert seen.one("NVCF-LARGE-OUTPUT-DIR") == f"/var/inf/response/{found['nvcf-reqid']}"
        assert (seen.one("NVCF-REGION"), seen.one("x-user-header")) == ("here", "v")
        assert seen.one("Host") == f"127.0.0.1:{world.servers[0].port}"
        assert seen.one("content-type") == "application/json"
        for name in ("authorization", "connection", "x-hop", "keep-alive", "te", "proxy-authorization", "upgrade"):
            assert seen.all(name) == []
        assert "nvcf-region" not in found


async def test_container_copies_of_platform_headers_are_dropped() -> None:
    """What an instance says of nvcf-reqid, nvcf-status and its connection does not reach the client; the rest does."""

    async def liar(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            answer(200, b"x", "nvcf-reqid: fake", "NVCF-STATUS: fake", "Keep-Alive: 5", "Connection: x-gone",
                   "x-gone: 1", "x-kept: 1", "x-kept: 2", "access-control-expose-headers: x-kept")
        )  # fmt: skip

    async with a_world() as world:
        await world.deploy(await world.instance(liar))
        found = await world.call("POST", PINNED)
        assert_trio(found, "fulfilled")
        assert found.all("x-kept") == ["1", "2"]
        assert found.all("access-control-expose-headers") == ["x-kept", "nvcf-reqid"]
        assert "x-gone" not in found
        assert "keep-alive" not in found


@pytest.mark.parametrize(
    ("authorization", "text"),
    [("", "Header of type `authorization` was missing"), ("Basic x", "Unauthorized access"),
     ("bearer x", "Unauthorized access"), ("Bearer a b", "Unauthorized access")],
)  # fmt: skip
async def test_no_credential_is_told_in_plain_text(authorization: str, text: str) -> None:
    """Without a bearer credential the answer is 401 with the reference's text, and no trio."""
    async with a_world() as world:
        found = await world.call("POST", PINNED, {"Authorization": authorization})
        assert (found.status, found.body.decode()) == (401, text)
        assert "nvcf-reqid" not in found


async def test_unknown_expired_and_revoked_keys_are_401_problems() -> None:
    """A key that is unknown, has expired or was revoked is answered with a 401 problem."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        world.control.publish("old", a_key("old", expires_at=1.0))
        world.control.publish("key", revoked(), keep=False)
        await world.settled()
        for key in ("bad", "old", KEY):
            found = await world.call("POST", PINNED, {"Authorization": f"Bearer {key}"})
            body = json.loads(found.body)
            assert (found.status, body["status"], body["title"]) == (401, 401, "Unauthorized")
            assert body["detail"]


async def test_unknown_function_and_version() -> None:
    """Unknown ids are 404 with the reference's details."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        found = await world.call("POST", f"/v2/nvcf/pexec/functions/{ABSENT}")
        assert_problem(found, 404, f"Function '{ABSENT}': Not found for account 'nvcf-default'")
        found = await world.call("POST", f"{PEXEC}/versions/{ABSENT}")
        detail = f"Function id '{F}', version '{ABSENT}': Not found for account 'nvcf-default'"
        assert_problem(found, 404, detail)
        found = await world.call("POST", f"/v2/nvcf/pexec/functions/{ABSENT}/versions/{V}")
        assert_problem(found, 404, f"Function '{ABSENT}': Not found for account 'nvcf-default'")


async def test_other_accounts_functions_are_unknown() -> None:
    """A key of another account does not see the function."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        world.control.publish("other", a_key("other", nca_id="other"))
        await world.settled()
        found = await world.call("POST", PINNED, {"Authorization": "Bearer other"})
        assert_problem(found, 404, f"Function '{F}': Not found for account 'other'")


@pytest.mark.parametrize("status", [FunctionStatus.INACTIVE, FunctionStatus.DEPLOYING, FunctionStatus.ERROR])
async def test_version_that_is_not_active(status: FunctionStatus) -> None:
    """A version that is not invocable is 404 with 'is not found', whether it is deployed or only known."""
    async with a_world() as world:
        await world.deploy(await world.instance(), status=status)
        world.control.publish("known", a_known(V2, status))
        await world.settled()
        for version in (V, V2):
            found = await world.call("POST", f"{PEXEC}/versions/{version}")
            what = f"Function id '{F}' version '{version}'"
            assert_problem(found, 404, f"{what}: Specified function in account 'nvcf-default' is not found")


async def test_only_degraded_versions() -> None:
    """When all that is left is DEGRADED the answer is 400."""
    async with a_world() as world:
        await world.deploy(status=FunctionStatus.DEGRADED)
        found = await world.call("POST", PEXEC)
        assert_problem(found, 400, f"Function id '{F}': DEGRADED function cannot be invoked")


async def test_rights_of_a_key() -> None:
    """Scope first, then existence, then the resource: 403 with the reference's texts."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        world.control.publish("a", a_key("scopeless", scopes=("queue_details",)))
        world.control.publish("b", a_key("elsewhere", resources=(("function", f"{ABSENT}/*"),)))
        world.control.publish("c", a_key("exact", resources=(("function", f"{F}/{V}"),)))
        await world.settled()
        found = await world.call("POST", PINNED, {"Authorization": "Bearer scopeless"})
        assert_problem(found, 403, "missing requested authorities")
        found = await world.call("POST", PEXEC, {"Authorization": "Bearer elsewhere"})
        assert_problem(found, 403, f"Function '{F}':  Missing resource entry in ApiKey for the function")
        found = await world.call("POST", f"{PEXEC}/versions/{ABSENT}", {"Authorization": "Bearer elsewhere"})
        assert found.status == 404
        found = await world.call("POST", PEXEC, {"Authorization": "Bearer exact"})
        assert found.status == 200


async def test_malformed_ids_and_methods() -> None:
    """A path id that is no UUID is 400 in plain text after authentication; another method than POST is 405."""
    async with a_world() as world:
        found = await world.call("POST", "/v2/nvcf/pexec/functions/not-a-uuid")
        assert (found.status, found["content-type"]) == (400, "text/plain; charset=utf-8")
        found = await world.call("POST", "/v2/nvcf/pexec/functions/not-a-uuid", {"Authorization": ""})
        assert found.status == 401
        found = await world.call("GET", PINNED)
        assert (found.status, found["allow"]) == (405, "POST")
        found = await world.call("POST", f"/v2/nvcf/pexec/status/{ABSENT}")
        assert (found.status, found["allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("seconds", ["10000", "abc", "3601", "-1", "1.5"])
async def test_bad_poll_duration(seconds: str) -> None:
    """A window that cannot be read or is too long is 400."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        found = await world.call("POST", PINNED, {"NVCF-POLL-SECONDS": seconds})
        assert_problem(found, 400, "failed to parse poll duration")


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [({"NVCF-POLL-SECONDS": "3600"}, 3590, 3600), ({"NVCF-POLL-SECONDS": "0"}, 0, 1), ({}, 50, 60),
     ({"Accept": "text/event-stream"}, 1190, 1200), ({"Accept": "text/event-stream, */*"}, 50, 60)],
)  # fmt: skip
async def test_windows(headers: dict[str, str], low: int, high: int) -> None:
    """The window is the client's, at least 1 s; by default 60 s, or 1200 s for an SSE call."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await world.call("POST", PINNED, headers)
        assert low <= int(world.servers[0].seen[0].one("nvcf-poll-seconds") or -1) <= high


async def test_container_errors_become_problems() -> None:
    """In compatibility mode an instance's error is a problem with its message; for SSE or on opt-out it is verbatim."""

    async def refuse(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        body = b'{"error":"bad input tensor"}' if seen.one("x-kind") else b"boom"
        writer.write(answer(400 if seen.one("x-kind") else 500, body, "Content-Type: application/json", "x-own: 1"))

    urn = "urn:inference-service:problem-details:"
    async with a_world() as world:
        await world.deploy(await world.instance(refuse))
        found = await world.call("POST", PINNED, {"x-kind": "json"})
        assert_worker_problem(found, 400, urn + "bad-request", "bad input tensor")
        assert "x-own" not in found
        found = await world.call("POST", PINNED)
        assert_worker_problem(found, 500, urn + "internal-server-error", "Inference error")
        for header in ({"Accept": "text/event-stream"}, {"nvcf-feature-disable-worker-compatibility": "true"}):
            found = await world.call("POST", PINNED, header)
            assert (found.status, found.body, found["x-own"]) == (500, b"boom", "1")
            assert_trio(found, "errored")
        assert world.is_quiet


async def test_closed_port_is_a_connection_error() -> None:
    """An instance that cannot be reached is a 500 whose type says so, in either mode."""
    async with a_world() as world:
        server = await world.instance()
        await world.deploy(server)
        await server.stop()
        urn = "urn:inference-connection:problem-details:internal-server-error"
        for headers in ({}, {"Accept": "text/event-stream"}):
            found = await world.call("POST", PINNED, headers)
            assert_worker_problem(found, 500, urn, "Inference connection error while making inference request")
        assert world.is_quiet


async def test_large_bodies() -> None:
    """Five MiB with a length and 32 MiB in chunks arrive whole."""

    async def count(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_body(reader, seen)
        writer.write(answer(200, str(len(body)).encode()))

    async with a_world() as world:
        await world.deploy(await world.instance(count))
        found = await world.call("POST", PINNED, {}, bytes(5 << 20))
        assert found.body == str(5 << 20).encode()
        client = await world.client()
        await client.send("POST", PINNED, {"Content-Length": "", "Transfer-Encoding": "chunked"})
        piece = b"8000\r\n" + bytes(0x8000) + b"\r\n"
        for _ in range(1024):
            client.writer.write(piece)
            await client.writer.drain()
        client.writer.write(b"0\r\n\r\n")
        assert (await client.answer()).body == str(32 << 20).encode()


async def test_concurrency_is_exact() -> None:
    """A hundred concurrent calls all succeed, never more than the slots at once on an instance."""

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        await asyncio.sleep(0.002)
        writer.write(answer())

    async with a_world() as world:
        await world.deploy(await world.instance(slow), await world.instance(slow), slots=3)
        found = await asyncio.gather(*(world.call("POST", PINNED) for _ in range(100)))
        assert {answer.status for answer in found} == {200}
        assert [server.peak for server in world.servers] == [3, 3]
        assert world.is_quiet


async def test_undeploy_takes_effect() -> None:
    """A version that is gone, or only known, is not invoked any more."""
    async with a_world() as world:
        await world.deploy(await world.instance())
        await world.undeploy()
        assert (await world.call("POST", PINNED)).status == 404
        await world.deploy(world.servers[0])
        assert (await world.call("POST", PINNED)).status == 200
        world.control.publish(f"version:{V}", gone(), keep=False)
        await world.settled()
        assert (await world.call("POST", PINNED)).status == 404


async def test_cors() -> None:
    """A preflight needs no key; a real response mirrors the origin over the instance's own words."""

    async def own(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, seen)
        writer.write(answer(200, b"", "access-control-allow-origin: http://instance"))

    async with a_world() as world:
        await world.deploy(await world.instance(own))
        headers = {"Origin": "http://localhost", "Access-Control-Request-Method": "POST", "Authorization": ""}
        found = await world.call("OPTIONS", PEXEC, headers)
        assert (found.status, found["access-control-allow-origin"], found["allow"]) == (200, "http://localhost", "POST")
        assert found["access-control-max-age"] == "86400"
        found = await world.call("POST", PINNED, {"Origin": "http://localhost"})
        assert found.all("access-control-allow-origin") == ["http://localhost"]
        found = await world.call("POST", PINNED)
        assert found.all("access-control-allow-origin") == ["http://instance"]
