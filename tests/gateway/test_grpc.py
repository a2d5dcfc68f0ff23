"""gRPC through the gateway, with grpcio on both sides."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from gateway_world import F, V
from grpc import aio
from grpc_fakes import CALLER, PINNED, GrpcInstance, a_channel, a_grpc_world, unary
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gpufn.wire.rates import RateLimitDto


async def test_unary_with_metadata() -> None:
    """Message and metadata pass as they are, both ways; id and caller are added; the cookie comes once."""
    async with a_grpc_world() as (world, instance, channel):
        call = unary(channel)(b"hello", metadata=(*PINNED, ("x-mine", "1"), ("x-mine-bin", b"\x00\x01")))
        assert await call == b"hello"
        initial: dict[str, Any] = dict(await call.initial_metadata())
        assert (initial["x-initial"], initial["x-raw-bin"]) == ("yes", b"\x00\xff")
        assert ("x-trailing", "too") in list(await call.trailing_metadata())
        seen: dict[str, Any] = dict(instance.metadata[0])
        assert (seen["x-mine"], seen["x-mine-bin"], seen["function-id"]) == ("1", b"\x00\x01", F)
        assert (seen["nvcf-reqid"], seen["nvcf-ncaid"]) == (initial["nvcf-reqid"], "nvcf-default")
        assert initial["set-cookie"] == f"nvcf-request-id={initial['nvcf-reqid']}"
        second = unary(channel)(b"again", metadata=PINNED)
        assert await second == b"again"
        again = dict(await second.initial_metadata())
        assert "set-cookie" not in again
        assert again["nvcf-reqid"] == initial["nvcf-reqid"]
        assert world.is_quiet


async def test_all_kinds_of_calls() -> None:
    """Streams of answers, of requests, and of both, message by message."""
    async with a_grpc_world() as (world, _, channel):
        answers = channel.unary_stream("/test.Echo/Expand")(b"1000", metadata=CALLER)
        assert [piece async for piece in answers] == [b"%d" % number for number in range(1000)]
        collected = channel.stream_unary("/test.Echo/Collect")((b"%d" % n for n in range(500)), metadata=CALLER)
        assert await collected == b",".join(b"%d" % number for number in range(500))
        talk = channel.stream_stream("/test.Echo/Talk")(metadata=CALLER)
        for word in (b"one", b"two", b"three"):
            await talk.write(word)
            assert await talk.read() == word.upper()
        await talk.done_writing()
        assert await talk.read() is aio.EOF
        assert await talk.code() is grpc.StatusCode.OK
        assert world.is_quiet


async def test_large_messages_pass_within_the_windows() -> None:
    """Sixteen megabytes both ways, three at a time."""
    async with a_grpc_world() as (world, _, channel):
        message = bytes(range(256)) * 65536
        found = await asyncio.gather(*(unary(channel)(message, metadata=CALLER) for _ in range(3)))
        assert all(answer == message for answer in found)
        await world.until(lambda: world.is_quiet)


async def test_many_calls_on_one_connection() -> None:
    """Never more at the instance than it has slots; every call gets its own answer."""
    async with a_grpc_world(slots=3) as (world, instance, channel):
        calls = (unary(channel)(b"%d" % number, metadata=CALLER) for number in range(300))
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(300)]
        assert instance.peak <= 3
        assert world.is_quiet


async def test_errors_of_the_instance_pass() -> None:
    """Status and message as they are, before and after messages."""
    async with a_grpc_world() as (world, _, channel):
        with pytest.raises(aio.AioRpcError) as failed:
            await unary(channel, "Fail")(b"", metadata=CALLER)
        assert failed.value.code() is grpc.StatusCode.DATA_LOSS
        assert failed.value.details() == "gone: 100 % lost, ünd so"
        stream = channel.unary_stream("/test.Echo/FailLate")(b"", metadata=CALLER)
        assert await stream.read() == b"one"
        with pytest.raises(aio.AioRpcError) as late:
            await stream.read()
        assert (late.value.code(), late.value.details()) == (grpc.StatusCode.ABORTED, "after one")
        with pytest.raises(aio.AioRpcError) as unknown:
            await channel.unary_unary("/no.Such/Method")(b"", metadata=CALLER)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert world.is_quiet


REFUSED = [
    ((), "UNAUTHENTICATED", "no authorization was passed in the metadata"),
    ((("authorization", "nvapi-x"), ("function-id", F)), "UNAUTHENTICATED", "no authorization was passed"),
    ((CALLER[0],), "INVALID_ARGUMENT", "no function-id was passed in the metadata"),
    ((("authorization", "Bearer no"), CALLER[1]), "UNAUTHENTICATED", "failed to open stateful work request: "),
    ((CALLER[0], ("function-id", "x")), "NOT_FOUND", "failed to open stateful work request: Function 'x': Not found"),
    ((*CALLER, ("function-version-id", F)), "NOT_FOUND", f"Function id '{F}', version '{F}': Not found"),
    ((*CALLER, ("nvcf-reqid", V)), "NOT_FOUND", f"no existing session found for request id {V}"),
]


@pytest.mark.parametrize(("metadata", "code", "words"), REFUSED)
async def test_refusals(metadata: tuple[tuple[str, str], ...], code: str, words: str) -> None:
    """What may not be called is refused with the reference's status and words, and no instance hears of it."""
    async with a_grpc_world() as (_, instance, channel):
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel)(b"", metadata=metadata)
        assert refused.value.code().name == code
        assert words in (refused.value.details() or "")
        assert instance.metadata == []


async def test_deadlines_reach_the_instance_and_end_the_call() -> None:
    """The instance is told what is left; a call beyond its deadline is ended there too."""
    async with a_grpc_world(slots=1) as (world, instance, channel):
        left = float(await unary(channel, "Deadline")(b"", metadata=CALLER, timeout=7))
        assert 6 < left <= 7
        with pytest.raises(aio.AioRpcError) as late:
            await unary(channel, "Wait")(b"", metadata=CALLER, timeout=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await world.until(lambda: world.is_quiet and instance.cancelled == 1)


async def test_waiting_is_taken_off_the_deadline() -> None:
    """A call that waited for its slot has less time at the instance."""
    async with a_grpc_world(slots=1) as (world, instance, channel):
        first = unary(channel, "Wait")(b"", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        second = unary(channel, "Deadline")(b"", metadata=CALLER, timeout=10)
        await world.until(lambda: " queued=1 " in repr(world.gateway))
        await asyncio.sleep(0.5)
        instance.gate.set()
        assert await first == b""
        assert 5 < float(await second) < 9.6


async def test_cancellation_reaches_the_instance() -> None:
    """A client that gives up frees the slot at once, running or queued."""
    async with a_grpc_world(slots=1) as (world, instance, channel):
        running = unary(channel, "Wait")(b"", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        queued = unary(channel, "Wait")(b"", metadata=CALLER)
        await world.until(lambda: " queued=1 in_flight=1 " in repr(world.gateway))
        queued.cancel()
        await world.until(lambda: " queued=0 in_flight=1 " in repr(world.gateway))
        running.cancel()
        await world.until(lambda: world.is_quiet and instance.cancelled == 1)
        assert await unary(channel)(b"next", metadata=CALLER) == b"next"


async def test_a_client_that_vanishes_ends_its_calls() -> None:
    """Its connection closes: what ran for it is cancelled."""
    async with a_grpc_world() as (world, instance, _):
        async with a_channel(world) as channel:
            calls = [unary(channel, "Wait")(b"", metadata=CALLER) for _ in range(3)]
            await world.until(lambda: instance.active == 3)
        await world.until(lambda: world.is_quiet and instance.cancelled == 3)
        assert all(call.done() for call in calls)


async def test_no_instance_in_time() -> None:
    """DEADLINE_EXCEEDED in the reference's words, with what it was waiting for; plain HTTP/2 gets 504."""
    async with a_grpc_world(slots=1, stream_wait=0.2) as (world, instance, channel):
        running = unary(channel, "Wait")(b"", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel)(b"", metadata=CALLER)
        assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "failed to establish link to worker" in (refused.value.details() or "")
        assert "at position 1 of 1; 1 instances ready" in (refused.value.details() or "")
        running.cancel()


async def test_a_full_queue() -> None:
    """RESOURCE_EXHAUSTED, at once."""
    async with a_grpc_world(slots=1, queue_depth=1) as (world, instance, channel):
        calls = [unary(channel, "Wait")(b"", metadata=CALLER)]
        await world.until(lambda: instance.active == 1)
        calls.append(unary(channel, "Wait")(b"", metadata=CALLER))
        await world.until(lambda: " queued=1 " in repr(world.gateway))
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel)(b"", metadata=CALLER)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()


async def test_undeployed_while_waiting() -> None:
    """NOT_FOUND with the reason."""
    async with a_grpc_world(slots=1) as (world, instance, channel):
        running = unary(channel, "Wait")(b"done", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        waiting = unary(channel)(b"", metadata=CALLER)
        await world.until(lambda: " queued=1 " in repr(world.gateway))
        await world.undeploy()
        with pytest.raises(aio.AioRpcError) as refused:
            await waiting
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert "undeployed while the request was queued" in (refused.value.details() or "")
        instance.gate.set()
        assert await running == b"done"


async def test_an_instance_that_is_not_there() -> None:
    """UNAVAILABLE and why; the slot is free again."""
    async with a_grpc_world() as (world, instance, channel):
        await instance.stop()
        with pytest.raises(aio.AioRpcError) as failed:
            await unary(channel)(b"", metadata=CALLER)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "cannot be reached" in (failed.value.details() or "")
        assert world.is_quiet


async def test_an_instance_that_does_not_speak_http2() -> None:
    """UNAVAILABLE and why."""
    async with a_grpc_world(connect_timeout=1.0) as (world, _, channel):
        await world.deploy(await world.instance())
        with pytest.raises(aio.AioRpcError) as failed:
            await unary(channel)(b"", metadata=CALLER)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_instance_that_dies_during_a_call() -> None:
    """UNAVAILABLE and why, also after messages."""
    async with a_grpc_world() as (world, instance, channel):
        talk = channel.stream_stream("/test.Echo/Talk")(metadata=CALLER)
        await talk.write(b"one")
        assert await talk.read() == b"ONE"
        await instance.stop()
        with pytest.raises(aio.AioRpcError) as failed:
            await talk.read()
        assert failed.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await world.until(lambda: world.is_quiet)


async def test_the_gateway_stops() -> None:
    """What runs may end within the grace; then it is told UNAVAILABLE; new connections are refused."""
    async with a_grpc_world() as (world, instance, channel):
        quick = unary(channel, "Wait")(b"quick", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        draining = asyncio.get_running_loop().create_task(world.gateway.drain(5))
        await asyncio.sleep(0.05)
        instance.gate.set()
        assert await quick == b"quick"
        await draining


async def test_calls_are_cut_when_the_grace_is_over() -> None:
    """UNAVAILABLE, with the reason."""
    async with a_grpc_world() as (world, instance, channel):
        slow = unary(channel, "Wait")(b"", metadata=CALLER)
        await world.until(lambda: instance.active == 1)
        await world.gateway.drain(0)
        with pytest.raises(aio.AioRpcError) as cut:
            await slow
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (cut.value.details() or "")


async def test_sessions_are_taken_up_again() -> None:
    """A new connection that names the id, by header or by cookie, goes on with the session; a bad id is ignored."""
    async with a_grpc_world() as (world, _, channel):
        first = unary(channel)(b"", metadata=PINNED)
        await first
        name = dict(await first.initial_metadata())["nvcf-reqid"]
        for field in (("nvcf-reqid", name), ("cookie", f"a=b; nvcf-request-id={name}")):
            async with a_channel(world) as other:
                resumed = unary(other)(b"", metadata=(*PINNED, field))
                await resumed
                assert dict(await resumed.initial_metadata())["nvcf-reqid"] == name
        async with a_channel(world) as other:
            fresh = unary(other)(b"", metadata=(*PINNED, ("nvcf-reqid", "no-uuid")))
            await fresh
            assert dict(await fresh.initial_metadata())["nvcf-reqid"] != name


async def test_http1_on_the_grpc_port() -> None:
    """The port serves HTTP/1.1 like the other one: any client can look whether it is there."""
    async with a_grpc_world() as (world, _, _channel):
        world.port = world.grpc_port
        assert (await world.call("GET", "/health")).status == 200


async def test_another_instance_serves_what_one_cannot() -> None:
    """An instance that cannot be reached costs the client nothing while there is another."""
    async with a_grpc_world(slots=4) as (world, instance, channel):
        dead = GrpcInstance()
        await dead.start()
        await dead.stop()
        await world.deploy(dead, instance, slots=4)
        calls = (unary(channel)(b"%d" % number, metadata=CALLER) for number in range(20))
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(20)]
        await world.until(lambda: world.is_quiet)


async def test_calls_of_a_connection_meet_the_same_instance() -> None:
    """As long as it has a slot: what a client left there it finds again (conformance check 91)."""
    async with a_grpc_world(slots=4) as (world, instance, _):
        other = GrpcInstance()
        await other.start()
        world.servers.append(other)
        await world.deploy(instance, other, slots=4)
        for _number in range(4):
            async with a_channel(world) as channel:
                before = len(instance.metadata), len(other.metadata)
                for _again in range(5):
                    await unary(channel)(b"", metadata=CALLER)
                served = len(instance.metadata) - before[0], len(other.metadata) - before[1]
                assert sorted(served) == [0, 5]


async def test_rate_limits() -> None:
    """RESOURCE_EXHAUSTED in the reference's words (conformance check 90)."""
    async with a_grpc_world() as (world, instance, channel):
        await world.deploy(instance, slots=4, rate_limit=RateLimitDto(rate_limit="2-M", sync_check=True))
        for _ in range(2):
            await unary(channel)(b"", metadata=CALLER)
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel)(b"", metadata=CALLER)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "exceeded rate limit" in (refused.value.details() or "")


async def test_health_and_reflection_pass() -> None:
    """The instance's own services are reached like any other."""
    async with a_grpc_world() as (_, _instance, channel):
        health = health_pb2_grpc.HealthStub(channel)
        found = await health.Check(health_pb2.HealthCheckRequest(), metadata=CALLER)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([question]), metadata=CALLER)
        answers = [answer async for answer in call]
        assert "grpc.health.v1.Health" in {s.name for s in answers[0].list_services_response.service}
