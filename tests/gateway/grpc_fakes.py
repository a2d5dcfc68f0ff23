"""A gRPC instance and clients, both from grpcio, without protos: messages are bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from gateway_fakes import Server
from gateway_world import KEY, F, V, World, a_world
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

CALLER = (("authorization", f"Bearer {KEY}"), ("function-id", F))
PINNED = (*CALLER, ("function-version-id", V))
NO_RETRIES = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


class GrpcInstance(Server):
    """Serves every method of /test.Echo; ``metadata`` is what each call came with."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.metadata: list[dict[str, str]] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        """What ``Wait`` waits for."""
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.server = aio.server(options=[*unlimited, ("grpc.so_reuseport", 0), *options.items()])
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Expand": grpc.unary_stream_rpc_method_handler(self._expand),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self._fail_late),
            "Deadline": grpc.unary_unary_rpc_method_handler(self._deadline),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
        self.health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        reflection.enable_server_reflection(("test.Echo", health.SERVICE_NAME), self.server)

    async def start(self, path: Any = None) -> None:
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    @contextlib.contextmanager
    def _serving(self, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    async def _unary(self, request: bytes, context: Any) -> bytes:
        with self._serving(context):
            await context.send_initial_metadata((("x-initial", "yes"), ("x-raw-bin", b"\x00\xff")))
            context.set_trailing_metadata((("x-trailing", "too"),))
            return request

    async def _expand(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        with self._serving(context):
            for number in range(int(request)):
                yield b"%d" % number

    async def _collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        with self._serving(context):
            return b",".join([request async for request in requests])

    async def _talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        with self._serving(context):
            async for request in requests:
                yield request.upper()

    async def _wait(self, request: bytes, context: Any) -> bytes:
        with self._serving(context):
            await self.gate.wait()
            return request

    async def _fail(self, request: bytes, context: Any) -> bytes:
        with self._serving(context):
            await context.abort(grpc.StatusCode.DATA_LOSS, "gone: 100 % lost, ünd so")
            return b""

    async def _fail_late(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        with self._serving(context):
            yield b"one"
            await context.abort(grpc.StatusCode.ABORTED, "after one")

    async def _deadline(self, request: bytes, context: Any) -> bytes:
        with self._serving(context):
            return b"%.3f" % (context.time_remaining() or -1)


@contextlib.asynccontextmanager
async def a_grpc_world(*, slots: int = 4, **settings: Any) -> AsyncIterator[tuple[World, GrpcInstance, aio.Channel]]:
    """A gateway in front of one gRPC instance, and a channel to it."""
    async with a_world(**settings) as world:
        instance = GrpcInstance()
        await instance.start()
        world.servers.append(instance)
        await world.deploy(instance, slots=slots)
        async with a_channel(world) as channel:
            yield world, instance, channel


def a_channel(world: World) -> aio.Channel:
    """A connection of its own."""
    options = [*NO_RETRIES, ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return aio.insecure_channel(f"127.0.0.1:{world.grpc_port}", options=options)


def unary(channel: aio.Channel, name: str = "Unary") -> Any:
    return channel.unary_unary(f"/test.Echo/{name}")
