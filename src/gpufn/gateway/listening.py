"""The public listening socket, made before anything else so that a port in use ends the start at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from gpufn.model.errors import Fatal

BACKLOG = 4096


@dataclass(frozen=True)
class Listening:
    """The sockets of the public ports; ``tls`` and ``proxy`` only where they are wanted."""

    http: socket.socket
    grpc: socket.socket | None = None
    tls: socket.socket | None = None
    proxy: socket.socket | None = None

    def present(self) -> list[socket.socket]:
        """Those that there are, in this order."""
        return [each for each in (self.http, self.grpc, self.tls, self.proxy) if each is not None]


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A listening socket; ``port`` 0 picks one. Raises Fatal, saying why and what to do, when there can be none.

    ``option``: the one that chooses the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Fatal(f"cannot listen on {host!r}: {error}; choose another address with --host", exit_code=3) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Fatal(f"port {port} in use on {host}; choose another with {option}", exit_code=3) from error
        raise Fatal(f"cannot listen on {host} port {port}: {error}", exit_code=3) from error
    return listening


def from_present(sockets: Sequence[socket.socket], *, tls: bool, proxy: bool) -> Listening:
    """What ``Listening.present`` gave, put together again."""
    http, grpc, *rest = sockets
    return Listening(http, grpc, rest.pop(0) if tls else None, rest.pop(0) if proxy else None)
