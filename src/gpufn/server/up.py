"""``gpufn up``: a control process and a gateway, or both in this one, until someone says stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvloop

from gpufn.gateway.listening import Listening, listen
from gpufn.gateway.proxy import HOSTS
from gpufn.model.errors import Fatal
from gpufn.runtime.clock import utc_now
from gpufn.runtime.log import get_logger
from gpufn.runtime.supervisor import Supervisor
from gpufn.server import lifeline
from gpufn.server.certificates import OWN_NAMES, ensure
from gpufn.server.children import Child
from gpufn.server.data import DataDirectory
from gpufn.server.logging import configure
from gpufn.settings import ServerSettings, Settings

log = get_logger("up")


@dataclass(frozen=True)
class Running:
    """What there is to say once the installation serves."""

    url: str
    data: Path
    admin_key: str | None
    """Only when it is new."""
    grpc_port: int | None
    tls_url: str | None = None
    proxy_url: str | None = None


def run(settings: Settings, *, announce: Callable[[Running], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. Raises Fatal when it cannot start."""
    configure(settings.log)
    _check(settings)
    uvloop.run(_run(settings, announce))
    return 0


def _check(settings: Settings) -> None:
    if settings.server.gateways != 1:
        raise Fatal("server.gateways: this release runs exactly one gateway process; leave --gateways out", exit_code=2)
    for name in ("port", "grpc_port", "tls_port", "proxy_port"):
        if not 0 <= (port := getattr(settings.server, name)) <= 65535:
            raise Fatal(f"server.{name} = {port} is no port; use one from 1 to 65535, or 0", exit_code=2)


async def _run(settings: Settings, announce: Callable[[Running], None]) -> None:
    data = DataDirectory(settings.data)
    data.prepare()
    try:
        sockets, settings = _listen(settings)
        certify(settings.server, data)
        parts = _one_process if settings.server.single_process else _processes
        async with parts(settings, sockets) as (fresh, stop):
            running = _running(settings.server, data, fresh=fresh)
            data.announce(_facts(settings.server, running))
            announce(running)
            await stop
    finally:
        data.running.unlink(missing_ok=True)
        data.release()


def certify(server: ServerSettings, data: DataDirectory) -> None:
    """See that the certificates are there, if any port needs them. Raises Fatal."""
    if server.tls or server.proxy:
        own = [] if server.host in OWN_NAMES or _is_unspecified(server.host) else [server.host]
        ensure(data.tls, [*OWN_NAMES, *own, *(HOSTS if server.proxy else ())], now=utc_now())


def _running(server: ServerSettings, data: DataDirectory, *, fresh: bool) -> Running:
    host, names = _host(server.host), "localhost" if server.host in OWN_NAMES else _host(server.host)
    return Running(
        url=f"http://{host}:{server.port}",
        data=data.root,
        admin_key=data.admin_key.read_text().strip() if fresh else None,
        grpc_port=server.grpc_port,
        tls_url=f"https://{names}:{server.tls_port}" if server.tls else None,
        proxy_url=f"http://{host}:{server.proxy_port}" if server.proxy else None,
    )


def _facts(server: ServerSettings, running: Running) -> dict[str, object]:
    """What the command line finds in the data directory."""
    facts = {
        "url": running.url,
        "grpc": f"{_host(server.host)}:{server.grpc_port}",
        "tls": running.tls_url,
        "proxy": running.proxy_url,
        "started_at": utc_now().isoformat(),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _listen(settings: Settings) -> tuple[Listening, Settings]:
    """The sockets of all ports, and the settings with the ports that they got. Raises Fatal."""
    server, made, ports = settings.server, dict[str, socket.socket](), dict[str, Any]()
    wanted = {"port": True, "grpc_port": True, "tls_port": server.tls, "proxy_port": server.proxy}
    try:
        for name in (n for n, is_wanted in wanted.items() if is_wanted):
            port = getattr(server, name)
            free = server.port == 0 and port == getattr(ServerSettings, name)
            made[name] = listen(server.host, 0 if free else port, option=f"--{name.replace('_', '-')}")
            ports[name] = int(made[name].getsockname()[1])
    except BaseException:
        for each in made.values():
            each.close()
        raise
    listening = Listening(*(made.get(name) for name in wanted))  # type: ignore[arg-type]  # the first is always there
    return listening, replace(settings, server=replace(server, **ports))


@asynccontextmanager
async def _one_process(settings: Settings, sockets: Listening) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in this loop. Yields whether the admin key is new, and what is done when we are to stop."""
    from gpufn.server import control, gateway  # only here: the parent of child processes needs neither

    ready, stop = asyncio.Event(), _stop_requested()

    def ended(_: asyncio.Task[None]) -> None:
        ready.set()
        if not stop.done():
            stop.set_result(None)

    async with control.running(settings) as role, Supervisor() as tasks:
        serving = gateway.serve(settings, sockets, name="gateway-0", ready=ready.set, end=asyncio.shield(stop))
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
async def _processes(settings: Settings, sockets: Listening) -> AsyncIterator[tuple[bool, asyncio.Future[None]]]:
    """Control and gateway in processes of their own, started again when they die.

    The gateway stops before control does, so that no request finds control gone.
    """
    stop, line = _stop_requested(), lifeline.encode(settings)
    grace = settings.server.stop_grace + 5
    async with AsyncExitStack() as stack:
        for each in sockets.present():
            stack.callback(each.close)
        tasks = await stack.enter_async_context(Supervisor())
        children = (
            Child("control", line, cleans_up=True),
            Child("gateway", line, descriptors=tuple(s.fileno() for s in sockets.present())),
        )
        for child in children:
            stack.push_async_callback(child.stop, grace=grace)
            await child.start()
            tasks.start(child.keep(), name=child.role)
        tasks.start(_roll(children, grace=grace), name="roll")
        yield children[0].first_boot, stop
        for each in sockets.present():
            each.close()  # whoever connects from now on is refused at once, instead of waiting for nobody


async def _roll(children: Sequence[Child], *, grace: float) -> None:
    """Replace every process, one after the other, each time that SIGHUP arrives: after an upgrade, without a pause."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        for child in reversed(children):
            try:
                await child.replace(overlapping=child.role == "gateway", grace=grace)
                log.info("process replaced", role=child.role)
            except Fatal as error:
                log.error("process could not be replaced", role=child.role, error=error.message)


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


def _is_unspecified(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_unspecified
    return False


def _host(host: str) -> str:
    """How a client on this machine reaches ``host``."""
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "[::1]"
        return f"[{host}]" if address.version == 6 else host
    return host
