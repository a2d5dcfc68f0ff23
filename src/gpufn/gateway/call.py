"""What a client's connection and a call know of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.problems import Reply


class Call(Protocol):
    """What a request became."""

    broken_body: str
    """How the answer to a request begins whose body breaks off or is no body."""

    def body(self, data: bytes, last: bool) -> None: ...
    def client_gone(self) -> None: ...
    def client_slow(self, on: bool) -> None: ...


class Edge(Protocol):
    """The client's connection, as calls see it."""

    def head(self, head: ResponseHead, lines: list[bytes], body: bytes, last: bool) -> None:
        """Begin the response, in one write with the first bytes of its body."""
        ...

    def more(self, data: bytes, last: bool) -> None: ...
    def reply(self, reply: Reply) -> None:
        """Answer with something made here."""
        ...

    def cut(self) -> None:
        """The response cannot be completed: show it by ending the connection."""
        ...

    def hold(self, on: bool) -> None:
        """Read no more of the request for now, or go on."""
        ...

    def become(self, call: Call) -> None:
        """From now on ``call`` is what the request is."""
        ...

    def origin(self) -> bytes:
        """Scheme and host under which the client calls: how a URL begins that leads here."""
        ...

    def watch(self, told: Callable[[bool], None]) -> None:
        """Tell once whether the client has had the response that is being written, as far as one can see."""
        ...
