"""Passing a request on: nothing is taken from a sender that the other side does not take."""

from __future__ import annotations

from gpufn.gateway.forward import BUFFER_MAX, Forward
from gpufn.gateway.http1 import ResponseHead
from gpufn.gateway.upstream import Connection, Owner, Pool, Switch, Taker
from gpufn.runtime.supervisor import Supervisor
from gpufn.settings import GatewaySettings


class Sender:
    """Whoever sends the request, and is held now and then."""

    def __init__(self) -> None:
        self.held: list[bool] = []

    def hold(self, on: bool) -> None:
        self.held.append(on)

    def answered(self, head: ResponseHead, body: bytes, last: bool) -> None: ...
    def more(self, data: bytes, last: bool) -> None: ...
    def failed(self, reason: str) -> None: ...


class Full(Connection):
    """A connection that is full with the first bytes it is given."""

    def send(self, owner: Owner, data: bytes, *, without_body: bool, switch: Switch | None = None) -> None:
        owner.hold(True)


class Later:
    """A place that connects when it is told to."""

    taker: Taker | None = None

    def acquire(self, taker: Taker, *, fresh: bool) -> None:
        self.taker = taker

    def put(self, connection: Connection) -> None: ...


def test_a_sender_is_still_held_when_the_first_bytes_were_too_many() -> None:
    """A body that came before the connection holds the sender; if it fills the connection, the sender stays held."""
    sender, place = Sender(), Later()
    forward = Forward(sender, chunked=False)
    forward.body(bytes(BUFFER_MAX + 1), False)
    assert sender.held == [True]
    forward.start(place, b"head")
    assert place.taker is forward
    forward.connected(Full(Pool(GatewaySettings(), Supervisor(), host="h", port=1)), False)
    assert sender.held == [True, False, True]
    forward.hold(False)
    assert sender.held[-1] is False
