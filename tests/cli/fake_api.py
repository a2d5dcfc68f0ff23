"""A tiny stand-in for an installation's HTTP API, on a real loopback socket, with state a test can set."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FID, VID = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
KEY = "nvapi-admin"
GPUS = [
    {"name": "CPU", "instanceTypes": [{"name": "ON-PREM.CPU_1x", "default": True}]},
    {
        "name": "H100",
        "instanceTypes": [{"name": "ON-PREM.GPU.H100_1x"}, {"name": "ON-PREM.GPU.H100_2x", "default": True}],
    },
]


def a_version(name: str = "echo", *, id: str = FID, version: str = VID, status: str = "ACTIVE") -> dict[str, Any]:
    return {
        "id": id,
        "versionId": version,
        "ncaId": "nvcf-default",
        "name": name,
        "status": status,
        "containerImage": name,
        "createdAt": "2026-01-02T03:04:05.000Z",
    }


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: threading.Event | None = None
    """Set: the answer may go out."""


def a_problem(status: int, detail: str, type: str = "about:blank", **headers: str) -> Reply:
    body = json.dumps({"type": type, "title": "x", "status": status, "detail": detail}).encode()
    return Reply(status, body, {"content-type": "application/problem+json", **headers})


def a_json(value: object, **headers: str) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"content-type": "application/json", **headers})


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeApi:
    functions: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    becomes: str = "ACTIVE"
    """What a deployment turns into."""
    errors: list[str] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    logs: list[dict[str, str]] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)
    """What invocations are answered, in turn; the last one for ever."""
    accounts: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    parties: list[str] = field(default_factory=list)
    """Who the function is shared with."""
    tasks: list[dict[str, Any]] = field(default_factory=list)
    """What a task is when it is looked at, in turn; the last one for ever."""
    task_refusals: list[Reply] = field(default_factory=list)
    """What looks at the task are answered first."""
    task_lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Tasks, events, results and files, by the name of the list; two to a page."""
    contents: list[Reply] = field(default_factory=list)
    """What downloads of result files answer, in turn."""
    position: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, object] = field(default_factory=dict)
    """What GET or POST of a path answers, before anything else is looked at."""
    unlisted: bool = False
    """The key may not list functions."""
    refuse: Reply | None = None
    """Answer everything so."""
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def handle(self, request: Seen) -> Reply:
        self.seen.append(request)
        if self.refuse is not None:
            return self.refuse
        if request.headers.get("authorization") not in (f"Bearer {KEY}", "Bearer a-token"):
            return Reply(401, b"", {"www-authenticate": "Bearer"})
        if "/pexec/" in request.path or "function-id" in request.headers:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.unlisted:
            return a_problem(403, "Access Denied")
        path = request.path.partition("?")[0]
        if request.method in ("GET", "POST") and path in self.documents:
            return a_json(self.documents[path])
        for pattern, handler in ROUTES:
            if re.fullmatch(pattern, f"{request.method} {request.path.partition('?')[0]}"):
                return handler(self, request)
        return a_problem(404, f"no route {request.method} {request.path}")

    def find(self, version_id: str) -> dict[str, Any] | None:
        return next((f for f in self.functions if f["versionId"] == version_id), None)

    def sent(self, method: str, part: str) -> Seen:
        """The last request with that method whose path contains ``part``."""
        return [s for s in self.seen if s.method == method and part in s.path][-1]


def _function(api: FakeApi, request: Seen) -> Reply:
    found = api.find(request.path.partition("?")[0].split("/")[-1])
    return a_json({"function": found}) if found else a_problem(404, "no such version")


def _create(api: FakeApi, request: Seen) -> Reply:
    made = {**a_version(status="INACTIVE"), **request.json}
    api.functions.append(made)
    return a_json({"function": made})


def _delete(api: FakeApi, request: Seen) -> Reply:
    api.functions = [f for f in api.functions if f["versionId"] != request.path.split("/")[-1]]
    return Reply(204)


def _deployment(api: FakeApi, request: Seen) -> Reply:
    version = api.find(request.path.partition("?")[0].split("/")[-1]) or {}
    if request.method == "DELETE":
        version["status"] = "INACTIVE"
        return a_json({"function": version})
    if request.method == "POST":
        if version["status"] != "INACTIVE":
            return a_problem(400, "Status ACTIVE, use PATCH endpoint to update gpu-specification")
        version["status"] = api.becomes
        version["specs"] = request.json["deploymentSpecifications"]
    if version["status"] == "INACTIVE":
        return a_problem(404, "failed to find function deployment")
    spec = version.get("specs", [{"gpu": "CPU", "instanceType": "T", "minInstances": 0, "maxInstances": 1}])
    health = [{"error": text} for text in api.errors]
    deployment = {"functionStatus": version["status"], "deploymentSpecifications": spec}
    return a_json({"deployment": deployment | ({"healthInfo": health} if health else {})})


def _new_key(api: FakeApi, request: Seen) -> Reply:
    api.keys.append({"id": "k1", "prefix": "nvapi-k1", **request.json})
    return a_json({"key": {**api.keys[-1], "value": "nvapi-secret"}})


def _account(api: FakeApi, request: Seen) -> Reply:
    """One account, by the last part of the path; whatever is sent becomes part of it."""
    if request.headers["authorization"] != "Bearer a-token":
        return a_problem(403, "an API key cannot")
    if request.method == "DELETE":
        api.accounts.clear()
        return Reply(204)
    if request.method == "POST":
        no_bounds = {"maxFunctionsAllowed": 2**31 - 1, "maxTasksAllowed": 2**31 - 1}
        api.accounts.append({"ncaId": request.path.split("/")[-1], **no_bounds})
    if request.method != "GET":
        api.accounts[0] |= request.json
    return a_json({"account": api.accounts[0]})


def _audit(api: FakeApi, request: Seen) -> Reply:
    query = dict(pair.split("=") for pair in request.path.partition("?")[2].split("&"))
    rest = [r for r in api.audit if r["seq"] > int(query["after"])]
    return a_json({"records": rest[: int(query["limit"])]})


def _shared(api: FakeApi, request: Seen) -> Reply:
    """The rules of one level: the first party with POST, an added one again is 409."""
    if request.method == "POST":
        api.parties = [p["ncaId"] for p in request.json["authorizedParties"]]
    elif request.method == "DELETE":
        api.parties = []
    elif request.method == "PATCH":
        party = request.json["authorizedParty"]["ncaId"]
        if request.path.endswith("/remove"):
            api.parties.remove(party)
        elif not api.parties or party in api.parties:
            return a_problem(409 if api.parties else 404, "x")
        else:
            api.parties.append(party)
    entry = {"id": FID, "versionId": VID, "authorizedParties": [{"ncaId": p} for p in api.parties]}
    return a_json({"function": entry} if "/versions/" in request.path else {"functions": [entry]})


def _status(api: FakeApi, request: Seen) -> Reply:
    backends = [
        {"name": "process", "working": True, "detail": ""},
        {"name": "docker", "working": False, "detail": "none"},
    ]
    return a_json({"version": "9.9", "uptimeSeconds": 12.5, "backends": backends, "gpus": GPUS})


def _task(api: FakeApi, request: Seen) -> Reply:
    """The next look at the task; looks go on with the last one."""
    if request.method == "GET" and api.task_refusals:
        return api.task_refusals.pop(0)
    return a_json({"task": api.tasks.pop(0) if len(api.tasks) > 1 else api.tasks[0]})


def _task_list(api: FakeApi, request: Seen) -> Reply:
    path, _, query = request.path.partition("?")
    kind, given = path.rpartition("/")[2], dict(pair.split("=") for pair in query.split("&"))
    start = int(given.get("cursor", 0))
    page = {kind: api.task_lists[kind][start : start + 2]}
    more = start + 2 < len(api.task_lists[kind])
    return a_json(page | ({"limit": 2, "cursor": str(start + 2)} if more else {}))


F, D = "/v2/nvcf/functions", "/v2/nvcf/deployments/functions"
ROUTES: list[tuple[str, Callable[[FakeApi, Seen], Reply]]] = [
    (f"GET {F}", lambda api, _: a_json({"functions": api.functions})),
    (f"POST {F}(/[^/]+/versions)?", _create),
    (f"GET {F}/[^/]+/versions/[^/]+", _function),
    (f"DELETE {F}/[^/]+/versions/[^/]+", _delete),
    (f"(GET|POST|DELETE) {D}/[^/]+/versions/[^/]+", _deployment),
    ("GET /v2/gpufn/functions/[^/]+/versions/[^/]+/instances", lambda api, _: a_json({"instances": api.instances})),
    (
        "GET /v2/gpufn/functions/[^/]+/versions/[^/]+/logs",
        lambda api, _: Reply(200, "".join(json.dumps(line) + "\n" for line in api.logs).encode()),
    ),
    ("GET /v1/nvct/tasks(/[^/]+/(events|results))?", _task_list),
    (
        "GET /v2/gpufn/tasks/[^/]+/logs",
        lambda api, _: Reply(200, "".join(json.dumps(line) + "\n" for line in api.logs).encode()),
    ),
    ("GET /v2/gpufn/tasks/[^/]+/results/[^/]+/files", _task_list),
    ("GET /v2/gpufn/tasks/[^/]+/results/[^/]+/files/[0-9]+", lambda api, _: api.contents.pop(0)),
    ("POST /v1/nvct/tasks(/[^/]+/cancel)?", _task),
    ("GET /v1/nvct/tasks/[^/]+", _task),
    ("DELETE /v1/nvct/tasks/[^/]+", lambda api, _: Reply(204)),
    ("POST /v1/admin/keys", lambda api, _: a_json({"value": "a-token", "expires_at": "2026-01-01T00:00:00.000Z"})),
    ("GET /v2/nvcf/accounts", lambda api, _: a_json({"cloudAccounts": api.accounts})),
    ("(GET|POST|DELETE|PATCH) /v2/nvcf/accounts/[^/]+", _account),
    ("(GET|POST|DELETE|PATCH) /v2/nvcf/authorizations/functions/.*", _shared),
    ("GET /v2/gpufn/audit", _audit),
    ("GET /v2/gpufn/status", _status),
    ("PUT /v2/nvcf/secrets/functions/[^/]+/versions/[^/]+", lambda api, _: Reply(204)),
    ("POST /v2/gpufn/master-key/rotate", lambda api, _: a_json({"secrets": 2, "masterKeyId": "m1"})),
    ("GET /v2/gpufn(/accounts/[^/]+)?/keys", lambda api, _: a_json({"keys": api.keys})),
    ("POST /v2/gpufn(/accounts/[^/]+)?/keys", _new_key),
    ("DELETE /v2/gpufn/keys/k1", lambda api, _: Reply(204)),
    ("GET /v2/nvcf/queues/functions/.*", lambda api, _: a_json({"queues": [{"queueDepth": 3}]})),
    ("GET /v2/nvcf/queues/[^/]+/position", lambda api, _: a_json(api.position)),
]


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """``api`` on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = api.handle(Seen(self.command, self.path, headers, body))
            if reply.delay is not None:
                reply.delay.wait(10)
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)
            except OSError:
                self.close_connection = True  # the client went away, which some tests are about

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any  # noqa: N815  the base class names them so

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: tests look at ``seen``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
