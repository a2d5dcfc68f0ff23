"""What is made of the gateways' reports."""

from __future__ import annotations

from gpufn.scaling.load import LoadBoard
from gpufn.wire.feed import LoadReport, VersionLoad


def a_report(gateway: str = "g", **load: object) -> LoadReport:
    """A report on the version ``v``."""
    return LoadReport(
        gateway=gateway, seq=1, versions={"v": VersionLoad.model_validate({"queued": 0, "inFlight": 0} | load)}
    )


def test_what_was_served_adds_up() -> None:
    """Counts of several gateways are added; one that begins again from zero takes nothing away."""
    board = LoadBoard(started=0)
    for gateway, served in (("g", 5), ("h", 2), ("g", 9), ("g", 3)):
        board.report(a_report(gateway, served=served), now=1)
    assert board.load("v", now=1).served == 9 + 2 + 3
    board.forget("v")
    assert board.load("v", now=1).served == 0


def test_who_is_busy() -> None:
    """Requests are added up by instance; before any gateway has spoken nobody knows, unless none speaks for long."""
    board = LoadBoard(started=0)
    assert board.busy("v", now=1) is None
    board.report(a_report("g", inFlight=3, busy={"i": 2, "j": 1}), now=1)
    board.report(a_report("h", inFlight=1, busy={"i": 1}), now=1)
    assert board.busy("v", now=2) == {"i": 3, "j": 1}
    assert board.busy("v", now=100) == {}


def test_idle_counts_from_the_last_request() -> None:
    """A version that a report mentions is idle from then on at the earliest, even when nothing runs at that moment."""
    board = LoadBoard(started=0)
    board.report(a_report(served=1), now=50)
    assert board.load("v", now=60).idle_since == 50
