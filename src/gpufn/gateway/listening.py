"""The public listening socket, made before anything else so that a port in use ends the start at once."""

from __future__ import annotations

import errno
import socket

from gpufn.model.errors import Fatal

BACKLOG = 4096


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
