"""``gpufn up``: run the installation until it is told to stop."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Protocol

from gpufn.cli.session import Session, data_option, output_options
from gpufn.settings import load


class Running(Protocol):
    """What the server says once it answers."""

    @property
    def url(self) -> str: ...
    @property
    def data(self) -> Path: ...
    @property
    def admin_key(self) -> str | None: ...
    @property
    def grpc_port(self) -> int | None: ...
    @property
    def tls_url(self) -> str | None: ...
    @property
    def proxy_url(self) -> str | None: ...


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command; each overrides the setting of that name."""
    data_option(parser)
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="HTTP port; 0 picks a free one (default: 8080)")
    parser.add_argument("--grpc-port", type=int, metavar="PORT", help="gRPC port; 0 picks a free one (default: 10081)")
    parser.add_argument(
        "--tls", action="store_true", default=None, help="also listen with TLS, for clients that insist"
    )
    parser.add_argument("--tls-port", type=int, metavar="PORT", help="port for TLS (default: 8443)")
    parser.add_argument(
        "--proxy", action="store_true", default=None, help="CONNECT proxy that leads NVIDIA's host names here"
    )
    parser.add_argument("--proxy-port", type=int, metavar="PORT", help="port of the proxy (default: 8889)")
    parser.add_argument("--gateways", type=int, metavar="N", help="gateway processes; this release runs one")
    parser.add_argument("--single-process", action="store_true", default=None, help="run everything in one process")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: gpufn.toml in --data)")
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Read the settings, then serve; returns when the server has stopped."""
    args = session.args
    flags = {
        "data": args.data,
        "server.host": args.host,
        "server.port": args.port,
        "server.grpc_port": args.grpc_port,
        "server.tls": args.tls,
        "server.tls_port": args.tls_port,
        "server.proxy": args.proxy,
        "server.proxy_port": args.proxy_port,
        "server.gateways": args.gateways,
        "server.single_process": args.single_process,
        "log.level": "debug" if args.debug else None,
    }
    settings = load(flags, config=args.config).settings
    serve = importlib.import_module("gpufn.server.up").run  # only here: nothing else may load the server
    return int(serve(settings, announce=lambda running: announce(session, running)))


def announce(session: Session, running: Running) -> None:
    """Tell people, or with --json programs, that it runs and how to use it."""
    console = session.console
    if session.args.json:
        console.json(
            {
                "url": running.url,
                "data": str(running.data),
                "adminKey": running.admin_key,
                "grpcPort": running.grpc_port,
                **({"tlsUrl": running.tls_url} if running.tls_url else {}),
                **({"proxyUrl": running.proxy_url} if running.proxy_url else {}),
            }
        )
        return
    option = f" --data {session.args.data}" if session.args.data else ""
    console.line(f"gpufn runs at   {running.url}")
    if running.tls_url is not None:
        console.line(f"with TLS        {running.tls_url}  (authority: {running.data / 'tls' / 'ca.pem'})")
    if running.proxy_url is not None:
        console.line(f"CONNECT proxy   {running.proxy_url}")
    if running.grpc_port is not None:
        console.line(f"gRPC            port {running.grpc_port}")
    console.line(f"data directory  {running.data}")
    if running.admin_key:
        console.line(f"admin key       {running.admin_key}  (shown once; kept in {running.data / 'admin.key'})")
    console.line(f"""use clients     eval "$(gpufn env{option})\"""")
    console.line(f"""first call      gpufn invoke echo '{{"message": "hello"}}'{option}""")
