"""``gpufn up``: a control process and a gateway, or both in this one, until someone says stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

import uvloop

from gpufn.gateway.listening import listen
from gpufn.model.errors import Fatal
from gpufn.runtime.clock import utc_now
from gpufn.runtime.supervisor import Supervisor
from gpufn.server import lifeline
from gpufn.server.children import Child
from gpufn.server.data import DataDirectory
from gpufn.server.logging import configure
from gpufn.settings import ServerSettings, Settings

Sockets: TypeAlias = tuple[socket.socket, socket.socket]
"""Those that listen on the HTTP port and on the gRPC port."""


@dataclass(frozen=True)
class Running:
    """What there is to say once the installation serves."""

    url: str
    data: Path
    admin_key: str | None
    """Only when it is new."""
    grpc_port: int | None


def run(settings: Settings, *, announce: Callable[[Running], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. Raises Fatal when it cannot start."""
    configure(settings.log)
    _check(settings)
    uvloop.run(_run(settings, announce))
    return 0


def _check(settings: Settings) -> None:
    if settings.server.gateways != 1:
        raise Fatal("server.gateways: this release runs exactly one gateway process; leave --gateways out", exit_code=2)
    for name in ("port", "grpc_port"):
        if not 0 <= (port := getattr(settings.server, name)) <= 65535:
            raise Fatal(f"server.{name} = {port} is no port; use one from 1 to 65535, or 0", exit_code=2)


async def _run(settings: Settings, announce: Callable[[Running], None]) -> None:
    data = DataDirectory(settings.data)
    data.prepare()
    try:
        sockets, settings = _listen(settings)
        port, grpc_port = settings.server.port, settings.server.grpc_port
        parts = _one_process if settings.server.single_process else _processes
        async with parts(settings, sockets) as (fresh, stop):
            host = _host(settings.server.host)
            url = f"http://{host}:{port}"
            data.announce({"url": url, "grpc": f"{host}:{grpc_port}", "started_at": utc_now().isoformat()})
            key = data.admin_key.read_text().strip() if fresh else None
            announce(Running(url, data.root, key, grpc_port))
            await stop
    finally:
        data.running.unlink(missing_ok=True)
        data.release()


def _listen(settings: Settings) -> tuple[Sockets, Settings]:
    """The sockets of both ports, and the settings with the ports that they got. Raises Fatal."""
    server = settings.server
    wanted = 0 if server.port == 0 and server.grpc_port == ServerSettings.grpc_port else server.grpc_port
    http = listen(server.host, server.port)
    try:
        grpc = listen(server.host, wanted, option="--grpc-port")
    except BaseException:
        http.close()
        raise
    port, grpc_port = int(http.getsockname()[1]), int(grpc.getsockname()[1])
    return (http, grpc), replace(settings, server=replace(server, port=port, grpc_port=grpc_port))


@asynccontextmanager
async def _one_process(settings: Settings, sockets: Sockets) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in this loop. Yields whether the admin key is new, and what is done when we are to stop."""
    from gpufn.server import control, gateway  # only here: the parent of child processes needs neither

    ready, stop = asyncio.Event(), _stop_requested()

    def ended(_: asyncio.Task[None]) -> None:
        ready.set()
        if not stop.done():
            stop.set_result(None)

    async with control.running(settings) as role, Supervisor() as tasks:
        serving = gateway.serve(settings, *sockets, ready=ready.set, end=asyncio.shield(stop))
        work = tasks.start(serving, name="gateway")
        failed = tasks.start(role.tasks.wait_failed(), name="failed")
        for essential in (work, failed):
            essential.add_done_callback(ended)  # should one ever end first, the whole ends with its error
        await ready.wait()
        gateway.tune()
        yield role.first_boot, stop
        if failed.done():
            failed.result()
        await work


@asynccontextmanager
async def _processes(settings: Settings, sockets: Sockets) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in processes of their own, started again when they die.

    The gateway stops before control does, so that no request finds control gone.
    """
    stop, line = _stop_requested(), lifeline.encode(settings)
    grace = settings.server.stop_grace + 5
    async with AsyncExitStack() as stack:
        for each in sockets:
            stack.callback(each.close)
        tasks = await stack.enter_async_context(Supervisor())
        children = (
            Child("control", line, cleans_up=True),
            Child("gateway", line, descriptors=tuple(s.fileno() for s in sockets)),
        )
        for child in children:
            stack.push_async_callback(child.stop, grace=grace)
            await child.start()
            tasks.start(child.keep(), name=child.role)
        yield children[0].first_boot, stop
        for each in sockets:
            each.close()  # whoever connects from now on is refused at once, instead of waiting for nobody


def _stop_requested() -> asyncio.Future[None]:
    """Done when SIGTERM or Ctrl-C arrives; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def requested(number: signal.Signals) -> None:
        if stop.done():
            loop.remove_signal_handler(number)
            signal.raise_signal(number)
        else:
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, requested, number)
    return stop


def _host(host: str) -> str:
    """How a client on this machine reaches ``host``."""
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "[::1]"
        return f"[{host}]" if address.version == 6 else host
    return host
