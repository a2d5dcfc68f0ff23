"""The ``exec`` form of a call: request and response wrapped in JSON (invocation-plane page, section 4.4).

The call inside is an ordinary one. ``ExecCall`` collects the wrapped request and starts it; ``Envelope`` stands where
the client's connection would be, collects its response and gives the client the wrapped one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from gpufn.gateway.budget import Budget
from gpufn.gateway.call import Call, Edge
from gpufn.gateway.http1 import RequestHead, ResponseHead
from gpufn.gateway.problems import JSON, PROBLEM, Refused, Reply, outcome, problem
from gpufn.gateway.route import is_uuid

REQUEST_MAX = 2 * 1024 * 1024
"""Largest wrapped request, in bytes."""
NIL = "00000000-0000-0000-0000-000000000000"
REQUEST_ID = b"nvcf-reqid: "
LOCATION = b"location:"
UNWRAPPABLE = problem(500, "the instance answered with something else than JSON, which exec cannot wrap; use pexec")
Start: TypeAlias = Callable[["Envelope", RequestHead, bytes], Call | Reply]
"""Begins the call inside: its edge, its head and its whole body. Raises Refused."""


class ExecCall:
    """A wrapped request on its way to becoming a call."""

    broken_body = "failed to collect request body: "

    def __init__(self, envelope: Envelope, head: RequestHead, start: Start) -> None:
        self._envelope = envelope
        self._request = head
        self._start = start
        self._collected: list[bytes] = []
        self._size = 0
        self._ended = False

    def enter(self, body: bytes, complete: bool) -> Call | Reply:
        """Take what is there of the request; the answer, if there is one already. Raises Refused."""
        if self._request.length > REQUEST_MAX:
            raise Refused(_too_long())
        self._collected.append(body)
        self._size = len(body)
        if not complete:
            return self
        outcome = self._begin()
        return outcome if isinstance(outcome, Reply) else self

    def body(self, data: bytes, last: bool) -> None:
        if self._ended:
            return
        self._collected.append(data)
        self._size += len(data)
        try:
            if self._size > REQUEST_MAX:
                raise Refused(_too_long())
            reply = self._begin() if last else None
        except Refused as refused:
            reply = refused.reply
        if isinstance(reply, Reply):
            self._ended = True
            self._collected.clear()
            self._envelope.refuse(reply)

    def client_gone(self) -> None:
        self._ended = True
        self._collected.clear()
        self._envelope.client_gone()

    def client_slow(self, on: bool) -> None:
        """The response goes out in one piece."""

    def _begin(self) -> Call | Reply:
        raw, self._collected = b"".join(self._collected), []
        head, body = unwrapped(raw, self._request)
        begun = self._start(self._envelope, head, body)
        if not isinstance(begun, Reply):
            self._envelope.call = begun
        return begun


class Envelope:
    """The edge of the call inside, and a call itself where there is nothing to unwrap (a status poll). ``cors`` are
    header lines of the wrapped response.
    """

    broken_body = "failed to collect request body: "

    def __init__(self, edge: Edge, memory: Budget, cors: tuple[bytes, ...], *, poll: bool = False) -> None:
        self.call: Call | None = None
        self._edge: Edge | None = edge
        self._memory = memory
        self._poll = poll
        self._cors = cors
        self._status = 0
        self._lines: list[bytes] = []
        self._collected: list[bytes] = []
        self._size = 0
        self._told: Callable[[bool], None] | None = None

    def head(self, head: ResponseHead, lines: list[bytes], body: bytes, last: bool) -> None:
        self._status, self._lines = head.status, lines
        self.more(body, last)

    def more(self, data: bytes, last: bool) -> None:
        if self._edge is None:
            return
        full = self._memory.reserve(len(data), self._size)
        if full is not None:
            self._fail(full)
            return
        self._size += len(data)
        self._collected.append(data)
        if last:
            self._deliver(wrapped(self._status, self._lines, b"".join(self._collected)))

    def reply(self, reply: Reply) -> None:
        self._deliver(self.wrapped(reply))

    def wrapped(self, reply: Reply) -> Reply:
        """``reply`` in its envelope; to a poll, a request that does not exist has one too."""
        if self._poll and reply == problem(404):
            return unknown()
        return wrapped(reply.status, reply.lines, reply.body)

    def become(self, call: Call) -> None:
        """From now on ``call`` is what is inside."""
        self.call = call

    def origin(self) -> bytes:
        """Scheme and host under which the client calls."""
        return self._edge.origin() if self._edge is not None else b""

    def watch(self, told: Callable[[bool], None]) -> None:
        """Tell once whether the client has had the response."""
        if self._edge is None:
            told(False)
        else:
            self._told = told

    def refuse(self, reply: Reply) -> None:
        """Answer with a problem found before there was a call."""
        self._answer(reply)

    def cut(self) -> None:
        self._fail("the response of the instance broke off")

    def hold(self, on: bool) -> None:
        """The request is all there."""

    def body(self, data: bytes, last: bool) -> None:
        """A status poll has none that matters."""

    def client_gone(self) -> None:
        call, self.call = self.call, None
        self._close()
        if call is not None:
            call.client_gone()

    def client_slow(self, on: bool) -> None:
        """The response goes out in one piece."""

    def finished(self, reply: Reply) -> Reply:
        """``reply`` as the client gets it."""
        return Reply(reply.status, (*reply.lines, *self._cors), reply.body)

    def _deliver(self, reply: Reply) -> None:
        """Answer with what is inside; if it could not be wrapped, the client has not had it."""
        told = self._told
        if told is not None and self._edge is not None and reply != UNWRAPPABLE:
            self._told = None
            self._edge.watch(told)
        self._answer(reply)

    def _fail(self, detail: str) -> None:
        call, self.call = self.call, None
        self._answer(problem(500, detail))
        if call is not None:
            call.client_gone()

    def _answer(self, reply: Reply) -> None:
        edge = self._edge
        self._close()
        if edge is not None:
            edge.reply(self.finished(reply))

    def _close(self) -> None:
        """The client is gone, or has its answer."""
        self._edge = None
        self._collected.clear()
        self._memory.free(self._size)
        self._size = 0
        told, self._told = self._told, None
        if told is not None:
            told(False)


def unwrapped(raw: bytes, request: RequestHead) -> tuple[RequestHead, bytes]:
    """The request inside: of the client's headers only what the platform itself acts upon goes on. Raises Refused."""
    document = _parsed(raw)
    if not isinstance(document, dict) or "requestBody" not in document:
        raise Refused(problem(400, "the body must be a JSON object with the member requestBody"))
    wished = document.get("requestHeader")
    if wished is not None and not isinstance(wished, dict):
        raise Refused(problem(400, "requestHeader: must be an object"))
    body = json.dumps(document["requestBody"], separators=(",", ":")).encode()
    head = RequestHead(b"POST", request.target, 1)
    head.special.append((b"content-type", b"Content-Type: application/json"))
    head.values |= {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    head.length = len(body)
    if b"gpufn-invocation-id" in request.values:
        head.values[b"gpufn-invocation-id"] = request.values[b"gpufn-invocation-id"]
    head.values |= _wishes(wished or {})
    return head, body


def _wishes(wished: dict[str, object]) -> dict[bytes, bytes]:
    """``requestHeader`` as the headers of the other form."""
    found: dict[bytes, bytes] = {}
    seconds = wished.get("pollDurationSeconds")
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            raise Refused(problem(400, "requestHeader.pollDurationSeconds: must be a whole number"))
        found[b"nvcf-poll-seconds"] = b"%d" % max(seconds, 0)
    references = wished.get("inputAssetReferences")
    if references is not None:
        if not isinstance(references, list) or not all(isinstance(r, str) and is_uuid(r.encode()) for r in references):
            raise Refused(problem(400, "requestHeader.inputAssetReferences: must be a list of UUIDs"))
        found[b"nvcf-input-asset-references"] = ",".join(references).encode()
    return found


def wrapped(status: int, lines: list[bytes] | tuple[bytes, ...], body: bytes) -> Reply:
    """The envelope of a response. One without a request id was made before there was a call and stays as it is."""
    request_id = next((line.removeprefix(REQUEST_ID) for line in lines if line.startswith(REQUEST_ID)), None)
    if request_id is None:
        return Reply(status, tuple(lines), body)
    fields: dict[str, object] = {"reqId": request_id.decode(), "status": outcome(status).decode()}
    if status == 200:
        return _fulfilled(fields, body)
    if status == 302:
        location = next((line for line in lines if line.lower().startswith(LOCATION)), LOCATION)
        reference = location[len(LOCATION) :].strip().decode("latin-1")
        return _document(200, fields | {"percentComplete": 100, "responseReference": reference})
    if status == 202:
        return _document(202, fields)
    if status in (204, 304):  # these have no body, wrapped or not
        return Reply(status, ())
    fields |= {"status": "errored", "errorCode": status}
    if PROBLEM in lines:  # an extension: the reference loses the reason
        fields["detail"] = json.loads(body).get("detail", "")
    return _document(status, fields)


def unknown() -> Reply:
    """The answer about a request that does not exist."""
    return _document(404, {"reqId": NIL, "status": "errored", "errorCode": 404})


def _fulfilled(fields: dict[str, object], body: bytes) -> Reply:
    try:
        text = body.decode()
        json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError):
        return UNWRAPPABLE
    opening = json.dumps(fields | {"percentComplete": 100})[:-1]
    return Reply(200, (JSON,), f'{opening}, "response": {text}}}'.encode())


def _document(status: int, fields: dict[str, object]) -> Reply:
    return Reply(status, (JSON,), json.dumps(fields).encode())


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw.decode(), parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(problem(400, f"the body is not JSON: {error}")) from error


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _too_long() -> Reply:
    return problem(400, f"failed to collect request body: it is longer than {REQUEST_MAX} bytes; use pexec")
