"""Outcomes as they are kept, and as polls are told of them."""

from __future__ import annotations

from gpufn.gateway.fields import HOP_BY_HOP
from gpufn.gateway.http1 import ResponseHead, end_to_end
from gpufn.gateway.outputs import Progress
from gpufn.gateway.problems import JSON, Reply, problem, trio
from gpufn.model.invocation import Body, Outcome

RESPONSE_DROP = HOP_BY_HOP | {b"nvcf-reqid", b"nvcf-status", b"content-length"}
CORS_DROP = RESPONSE_DROP | {b"access-control-allow-origin", b"access-control-allow-credentials"}


def stored(reply: Reply) -> Outcome:
    """Something made here, as an outcome."""
    return Outcome(reply.status, reply.lines, Body(len(reply.body), reply.body))


def worker_result(head: ResponseHead, body: Body) -> Outcome:
    """An instance's response, as an outcome."""
    return Outcome(head.status, tuple(end_to_end(head, RESPONSE_DROP)), body)


def result_lines(outcome: Outcome, request_id: bytes, cors: tuple[bytes, ...]) -> list[bytes]:
    """The header lines of the response that hands ``outcome`` out; ``cors`` takes the place of the instance's own."""
    kept = [line for line in outcome.lines if not cors or line.partition(b":")[0].lower() not in CORS_DROP]
    return [*kept, *trio(request_id, outcome.status), *cors]


def underway(request_id: bytes, progress: Progress | None, cors: tuple[bytes, ...]) -> Reply:
    """What whoever waits is told of a call that has no result yet: how far it is, where the instance says so."""
    if progress is None:
        return Reply(202, (*trio(request_id, 202), *cors))
    told = (JSON, b"nvcf-percent-complete: %d" % progress.percent)
    return Reply(202, (*told, *trio(request_id, 202), *cors), progress.body)


def abandoned() -> Reply:
    """What every poll is told of an invocation that was cancelled because nobody had asked for it (section 7.2)."""
    return problem(504, "worker did not acknowledge the status request.")
