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

import uvloop

from gpufn.gateway.listening import listen
from gpufn.model.errors import Fatal
from gpufn.runtime.clock import utc_now
from gpufn.runtime.supervisor import Supervisor
from gpufn.server import lifeline
from gpufn.server.children import Child
from gpufn.server.data import DataDirectory
from gpufn.server.logging import configure
from gpufn.settings import Settings


@dataclass(frozen=True)
class Running:
    """What there is to say once the installation serves."""

    url: str
    data: Path
    admin_key: str | None
    """Only when it is new."""
    grpc_port: int | None = None
    """None: this release serves no gRPC."""


def run(settings: Settings, *, announce: Callable[[Running], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. Raises Fatal when it cannot start."""
    configure(settings.log)
    _check(settings)
    uvloop.run(_run(settings, announce))
    return 0


def _check(settings: Settings) -> None:
    if settings.server.gateways != 1:
        raise Fatal("server.gateways: this release runs exactly one gateway process; leave --gateways out", exit_code=2)
    if not 0 <= settings.server.port <= 65535:
        raise Fatal(f"server.port = {settings.server.port} is no port; use one from 1 to 65535, or 0", exit_code=2)


async def _run(settings: Settings, announce: Callable[[Running], None]) -> None:
    data = DataDirectory(settings.data)
    data.prepare()
    try:
        listening = listen(settings.server.host, settings.server.port)
        port = int(listening.getsockname()[1])
        settings = replace(settings, server=replace(settings.server, port=port))
        parts = _one_process if settings.server.single_process else _processes
        async with parts(settings, listening) as (fresh, stop):
            url = f"http://{_host(settings.server.host)}:{port}"
            data.announce({"url": url, "started_at": utc_now().isoformat()})
            key = data.admin_key.read_text().strip() if fresh else None
            announce(Running(url, data.root, key))
            await stop
    finally:
        data.running.unlink(missing_ok=True)
        data.release()


@asynccontextmanager
async def _one_process(
    settings: Settings, listening: socket.socket
) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in this loop. Yields whether the admin key is new, and what is done when we are to stop."""
    from gpufn.server import control, gateway  # only here: the parent of child processes needs neither

    ready, stop = asyncio.Event(), _stop_requested()

    def ended(_: asyncio.Task[None]) -> None:
        ready.set()
        if not stop.done():
            stop.set_result(None)

    async with control.running(settings) as role, Supervisor() as tasks:
        serving = gateway.serve(settings, listening, ready=ready.set, end=asyncio.shield(stop))
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
async def _processes(settings: Settings, listening: socket.socket) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in processes of their own, started again when they die.

    The gateway stops before control does, so that no request finds control gone.
    """
    stop, line = _stop_requested(), lifeline.encode(settings)
    grace = settings.server.stop_grace + 5
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        tasks = await stack.enter_async_context(Supervisor())
        children = (Child("control", line, cleans_up=True), Child("gateway", line, descriptors=(listening.fileno(),)))
        for child in children:
            stack.push_async_callback(child.stop, grace=grace)
            await child.start()
            tasks.start(child.keep(), name=child.role)
        yield children[0].first_boot, stop
        listening.close()  # whoever connects from now on is refused at once, instead of waiting for nobody


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
