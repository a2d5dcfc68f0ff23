"""From an accepted request head to the call it becomes: routing, admission, and the order of both.

Which error wins is part of the contract (invocation-plane page, section 4.1): a missing credential, then the ids in the
path, the key, its rights, the function, the poll header, the rate limit, the queue.
"""

from __future__ import annotations

import re

from gpufn.gateway import admission
from gpufn.gateway.accepted import Accepted
from gpufn.gateway.assets import LINE, REFERENCES, AssetCall, references
from gpufn.gateway.call import Call, Edge
from gpufn.gateway.edge import Connection
from gpufn.gateway.envelope import Envelope, ExecCall, Start
from gpufn.gateway.http1 import RequestHead
from gpufn.gateway.invocation import Admitted, Invocation
from gpufn.gateway.limits import Policy, too_often
from gpufn.gateway.plane import Plane
from gpufn.gateway.poll import StatusPoll
from gpufn.gateway.problems import Refused, Reply, document, method_not_allowed, problem, text
from gpufn.gateway.relay import RelayCall
from gpufn.gateway.route import (
    RELAY,
    Direct,
    Health,
    Nowhere,
    Pexec,
    PexecStatus,
    QueuePosition,
    Relay,
    Target,
    Why,
    is_uuid,
    route,
)
from gpufn.gateway.snapshot import Grant, Snapshot
from gpufn.gateway.ticket import Caller
from gpufn.gateway.upgrade import UpgradeCall, read_subprotocols, requested
from gpufn.gateway.upstream import Pool
from gpufn.gateway.version import Version
from gpufn.model.invocation import AcceptedInvocation
from gpufn.runtime.clock import loop_now, utc_now
from gpufn.wire.why import FactDto, WhyResponse

SECONDS = re.compile(rb"[0-9]{1,9}")
SSE = b"text/event-stream"
POLL_SECONDS, WISHED = b"nvcf-poll-seconds", b"gpufn-invocation-id"
VARY = b"vary: origin, access-control-request-method, access-control-request-headers"


class Service:
    """Answers requests of one gateway."""

    def __init__(self, plane: Plane, snapshot: Snapshot, *, control: Pool, pepper: bytes) -> None:
        self.settings = plane.settings
        self.deadlines = plane.deadlines
        self.edges: set[Connection] = set()
        self.stopping = False
        """Whether connections are closed after the response that is due on them."""
        self.refusing = False
        """Whether new requests are turned away."""
        self._plane = plane
        self._snapshot = snapshot
        self._control = control
        self._pepper = pepper

    def handle(self, edge: Connection, head: RequestHead, body: bytes, complete: bool) -> Call | Reply:
        """The call that ``head`` asks for, started or queued; or the answer, if that is all there is to it."""
        if self.refusing:
            return problem(503, "the gateway is shutting down; call again", b"retry-after: 1")
        if b"upgrade" in head.values:
            read_subprotocols(head)
        target = route(head)
        try:
            if isinstance(target, Pexec) and head.method == b"POST" and not target.envelope:  # nearly all there is
                return self._invoke(edge, head, admission.bearer(head), target, body, complete)
            if isinstance(target, Why) and target.request_id.lower() not in self._plane.calls:
                target = RELAY
            if isinstance(target, Relay):
                call = RelayCall(edge, head, peer=edge.peer, secure=edge.secure, deadlines=self.deadlines)
                call.enter(self._control, body, complete)
                return call
            return self._serve(edge, head, target, body, complete)
        except Refused as refused:
            return _with_cors(refused.reply, head, target)

    def _serve(self, edge: Connection, head: RequestHead, target: Target, body: bytes, complete: bool) -> Call | Reply:
        if (reply := self._public(head, target)) is not None:
            return reply
        token = admission.bearer(head)
        match target:
            case Pexec(envelope=True):
                _check_pexec(head, target)
                envelope = Envelope(edge, self._plane.memory, _cors(head))
                return ExecCall(envelope, head, self._inner(token, target)).enter(body, complete)
            case Pexec() | Direct():
                if isinstance(target, Direct) and (protocol := requested(head)) is not None:
                    return self._upgrade(edge, head, token, target, protocol)
                return self._invoke(edge, head, token, target, body, complete)
            case PexecStatus(request_id, envelope=True):
                return self._wrapped_status(edge, head, token, request_id)
            case PexecStatus(request_id):
                return self._status(edge, head, token, request_id)
            case QueuePosition(request_id) | Why(request_id):
                call = self._visible(head, token, request_id)
                return document(_why(call) if isinstance(target, Why) else _position(call))
            case _:
                raise Refused(problem(404))

    def _public(self, head: RequestHead, target: Target) -> Reply | None:
        """What is answered to whoever asks, without a key."""
        if isinstance(target, Health):
            return self._health(head)
        if not isinstance(target, (Direct, Nowhere)) and _is_preflight(head):
            return _preflight(head, target)
        return None

    def _health(self, head: RequestHead) -> Reply:
        """Whether invocations can be served (section 4). They can while control is away, once it was heard of."""
        if head.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET,HEAD")
        if not self._snapshot.ready:
            return problem(500, "the gateway is starting and has not heard from control yet; retry")
        return document({"status": "OK"})

    def _invoke(
        self, edge: Edge, head: RequestHead, token: bytes, target: Pexec | Direct, body: bytes, complete: bool
    ) -> Call:
        direct = isinstance(target, Direct)
        named: tuple[str, ...] = ()
        if isinstance(target, Pexec):
            if head.method != b"POST" or not target.valid:
                _check_pexec(head, target)
            if REFERENCES in head.values:
                named = references(head)
        admitted = self._admit(head, token, target.function_id, target.version_id, direct=direct)
        if named:
            return self._with_assets(edge, head, admitted, named, body, complete)
        return self._begin(edge, head, admitted, body, complete)

    def _begin(self, edge: Edge, head: RequestHead, admitted: Admitted, body: bytes, complete: bool) -> Call:
        invocation = Invocation(self._plane, edge, head, admitted)
        invocation.enter(body, complete)
        return invocation

    def _with_assets(
        self, edge: Edge, head: RequestHead, admitted: Admitted, named: tuple[str, ...], body: bytes, complete: bool
    ) -> Call:
        """A call that begins once its assets were found; the instance is told their ids."""
        head.plain.append(LINE + ",".join(named).encode())
        call = AssetCall(edge, lambda data, last: self._begin(edge, head, admitted, data, last), admitted.cors)
        call.enter(self._plane.assets, admitted.grant.principal.nca_id, named, body, complete)
        return call

    def _inner(self, token: bytes, target: Pexec) -> Start:
        return lambda edge, head, body: self._invoke(edge, head, token, target, body, True)

    def _grant(self, token: bytes) -> Grant:
        return admission.grant(self._snapshot, token, self._pepper, _wall)

    def _admit(
        self, head: RequestHead, token: bytes, function_id: str, version_id: str | None, *, direct: bool
    ) -> Admitted:
        values, settings = head.values, self.settings
        grant = admission.grant(self._snapshot, token, self._pepper, _wall)
        admission.require(grant, admission.INVOKE)
        version = admission.choose(self._snapshot, grant, function_id, version_id)
        sse = not direct and values.get(b"accept") == SSE
        window = settings.poll_default_sse if sse else settings.poll_default
        if POLL_SECONDS in values:
            window = self._window(head, window)
        cors = _cors(head) if b"origin" in values and not direct else ()
        request_id = self._wished(values[WISHED]) if WISHED in values else self._plane.ids.next()
        lines = () if version.limit is None else self._limited(version.limit, grant, version)
        return Admitted(request_id, grant, version, direct, window, cors, lines)

    def _limited(self, limit: Policy, grant: Grant, version: Version) -> tuple[bytes, ...]:
        """Count the call; header lines that say how many more are allowed. Raises Refused (429)."""
        verdict = self._plane.limits.check(limit, grant.principal, version.id, loop_now())
        if verdict is None:
            return ()
        if not verdict.allowed:
            raise Refused(too_often(verdict))
        return verdict.lines

    def admit(self, token: bytes, function_id: bytes, version_id: bytes | None, *, counts: bool) -> Caller:
        """Who may call what on the gRPC port; ``counts``: towards the rate limit. Raises Refused."""
        if self.stopping:
            raise Refused(problem(503, "the gateway is shutting down; call again"))
        grant = self._grant(token)
        admission.require(grant, admission.INVOKE)
        pinned = version_id.decode("latin-1").lower() if version_id is not None else None
        version = admission.choose(self._snapshot, grant, function_id.decode("latin-1").lower(), pinned)
        if counts and version.limit is not None:
            self._limited(version.limit, grant, version)
        return Caller(self._plane.ids.next(), grant, version, self.settings.stream_wait)

    def _upgrade(self, edge: Connection, head: RequestHead, token: bytes, target: Direct, protocol: bytes) -> Call:
        """A WebSocket, or another protocol (section 14)."""
        admitted = self._admit(head, token, target.function_id, target.version_id, direct=True)
        wait = admitted.window if POLL_SECONDS in head.values else self.settings.stream_wait
        caller = Caller(admitted.id, admitted.grant, admitted.version, wait)
        call = UpgradeCall(self._plane, edge, head, caller, protocol)
        call.enter()
        return call

    def _window(self, head: RequestHead, default: int) -> int:
        """``NVCF-POLL-SECONDS`` (section 5.1)."""
        value = head.values.get(POLL_SECONDS)
        if value is None or not value.isascii():
            return default
        if SECONDS.fullmatch(value) is None or int(value) > self.settings.poll_max:
            raise Refused(problem(400, "failed to parse poll duration"))
        return max(int(value), 1)

    def _wished(self, wished: bytes) -> bytes:
        """The client's own id for its request: an extension, so that it can ask for its place while it waits."""
        if not is_uuid(wished):
            raise Refused(problem(400, "header gpufn-invocation-id is not a UUID"))
        wished = wished.lower()
        if wished in self._plane.calls:
            raise Refused(problem(409, "header gpufn-invocation-id names a request that exists; choose a fresh UUID"))
        return wished

    def _wrapped_status(self, edge: Connection, head: RequestHead, token: bytes, request_id: bytes) -> Call:
        """A status poll whose answer is wrapped; its window is fixed (section 4.4)."""
        _check_get(head, request_id)
        envelope = Envelope(edge, self._plane.memory, _cors(head), poll=True)
        bare = RequestHead(head.method, head.target, head.minor)
        try:
            envelope.call = self._status(envelope, bare, token, request_id)
        except Refused as refused:
            raise Refused(envelope.wrapped(refused.reply)) from refused
        return envelope

    def _status(self, edge: Edge, head: RequestHead, token: bytes, request_id: bytes) -> Call:
        """A status poll (section 7.4): the id is looked up before the caller's right to it is checked."""
        _check_get(head, request_id)
        grant = self._grant(token)
        window = self._window(head, self.settings.poll_default)
        admission.require(grant, admission.INVOKE)
        request_id = request_id.lower()
        if isinstance(self._plane.calls.get(request_id), Invocation):
            raise Refused(problem(404))  # its client still waits for the first answer

        def allow(record: AcceptedInvocation) -> None:
            admission.allow_invocation(self._snapshot, grant.principal, record)

        looks = head.method == b"HEAD"
        poll = StatusPoll(self._plane, edge, request_id, window=window, cors=_cors(head), allow=allow, looks=looks)
        poll.begin()
        return poll

    def _visible(self, head: RequestHead, token: bytes, request_id: bytes) -> Invocation | Accepted:
        """The call of that id, for whoever may know of it."""
        _check_get(head, request_id)
        grant = self._grant(token)
        admission.require(grant, admission.QUEUE_DETAILS)
        call = self._plane.calls.get(request_id.lower())
        if call is None or call.nca_id != grant.principal.nca_id:
            raise Refused(problem(404, "no such request: it is unknown, or its response was delivered"))
        admission.allow(grant.principal, call.version)
        return call


def _position(call: Invocation | Accepted) -> dict[str, object]:
    """Where a call is (section 3.6), from the moment it is queued."""
    version = call.version
    phase, detail = call.describe()
    return {
        "functionId": version.function_id,
        "functionVersionId": version.id,
        "positionInQueue": version.queue.position(call),
        "phase": phase,
        "detail": detail,
    }


def _why(call: Invocation | Accepted) -> dict[str, object]:
    """What a call waits for, in the shape of control's answers to "why": the words are those of a 504."""
    version = call.version
    phase, detail = call.describe()
    facts = {"phase": phase, "function": version.function_id, "version": version.id, "status": version.status.value}
    answer = WhyResponse(
        kind="request",
        id=call.id.decode(),
        sentence=f"the request is {detail}",
        facts=tuple(FactDto(name=name, value=value) for name, value in facts.items()),
    )
    return answer.model_dump(by_alias=True)


def _wall() -> float:
    return utc_now().timestamp()


def _check_pexec(head: RequestHead, target: Pexec) -> None:
    if head.method != b"POST":
        raise Refused(method_not_allowed(b"POST"))
    if not target.valid:
        raise Refused(text(400, "Invalid URL: a function id and a version id are UUIDs"))


def _check_get(head: RequestHead, request_id: bytes) -> None:
    if head.method not in (b"GET", b"HEAD"):
        raise Refused(method_not_allowed(b"GET,HEAD"))
    if not is_uuid(request_id):
        raise Refused(text(400, "Invalid URL: a request id is a UUID"))


def _is_preflight(head: RequestHead) -> bool:
    return head.method == b"OPTIONS" and b"access-control-request-method" in head.values


def _preflight(head: RequestHead, target: Target) -> Reply:
    """Everything is allowed to every origin, without a key (section 4.6)."""
    values = head.values
    lines = [
        *_cors(head),
        b"access-control-allow-methods: " + values[b"access-control-request-method"],
        b"access-control-max-age: 86400",
        b"allow: " + (b"POST" if isinstance(target, Pexec) else b"GET,HEAD"),
    ]
    wanted = values.get(b"access-control-request-headers")
    if wanted is not None:
        lines.append(b"access-control-allow-headers: " + wanted)
    return Reply(200, tuple(lines))


def _cors(head: RequestHead) -> tuple[bytes, ...]:
    """The mirrored origin, for a request that has one (section 4.6)."""
    origin = head.values.get(b"origin")
    if origin is None:
        return ()
    return b"access-control-allow-origin: " + origin, b"access-control-allow-credentials: true", VARY


def _with_cors(reply: Reply, head: RequestHead, target: Target) -> Reply:
    lines = () if isinstance(target, Direct) else _cors(head)
    return Reply(reply.status, (*reply.lines, *lines), reply.body) if lines else reply
