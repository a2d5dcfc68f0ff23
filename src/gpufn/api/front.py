"""What every request passes before routing: CORS, the error boundary, authentication, and the NGC path prefix.

In this order, because authentication comes before routing (control-plane page, section 1: an unknown path is 401
without a token and 404 with one) and every answer, refusals too, carries the CORS headers (section 22).
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpufn.api import problems
from gpufn.api.context import Context
from gpufn.api.security import CALLER, authenticate
from gpufn.model.access import SUPER_SCOPE, Principal
from gpufn.model.errors import Forbidden, PlatformError
from gpufn.model.ids import DEFAULT_ACCOUNT, new_id
from gpufn.runtime.log import get_logger

WELL_KNOWN = frozenset({"/.well-known/jwks.json", "/.well-known/openid-configuration"})
PUBLIC = (
    frozenset({"/health", "/info", "/openapi.json", "/v3/openapi", "/docs", "/v3/keys/get-caller-info"}) | WELL_KNOWN
)
"""Paths that need no key."""
ISSUER = "/v1/admin/keys"
GUEST = Principal(DEFAULT_ACCOUNT, "guest", frozenset({SUPER_SCOPE}), ())
"""Who asks the open issuer for an admin token (auth page, section 6.1)."""
SIGNED = "/v2/gpufn/objects/"
"""Below this, the URL itself is the credential."""

_PREFIX = re.compile(r"/v2/orgs/(?P<org>[^/]+)(?:/teams/[^/]+)?/(?P<service>nvcf|nvct|skyway|sis)(?P<rest>/.*)")
_SERVICES = {"nvcf": "/v2/nvcf", "nvct": "/v1/nvct", "skyway": "/v2/skyway", "sis": "/v1/accounts/{nca}"}
_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"

log = get_logger("api")


class Cors:
    """Any origin may call, with credentials; a preflight needs no key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        if origin is None:
            await self._app(scope, receive, send)
            return

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                _allow(MutableHeaders(scope=message), origin)
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            preflight = PlainTextResponse("", headers=_preflight(headers))
            await preflight(scope, receive, send_with_cors)
        else:
            await self._app(scope, receive, send_with_cors)


def _allow(headers: MutableHeaders, origin: str) -> None:
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Allow-Credentials"] = "true"
    headers["Access-Control-Expose-Headers"] = "*"
    headers["Vary"] = _VARY


def _preflight(headers: Headers) -> dict[str, str]:
    answer = {
        "Access-Control-Allow-Methods": headers["access-control-request-method"],
        "Access-Control-Max-Age": "86400",
    }
    if "access-control-request-headers" in headers:
        answer["Access-Control-Allow-Headers"] = headers["access-control-request-headers"]
    return answer


class Boundary:
    """Turns what was raised into a problem. A bug is answered with an id, and logged under it with its traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except PlatformError as error:
            if started:
                raise
            await problems.of_error(scope, error)(scope, receive, send)
        except Exception as error:  # the HTTP boundary: a bug ends one request, not the server
            error_id = new_id()
            log.exception("request failed", error_id=error_id, path=scope["path"], error=repr(error))
            if started:
                raise
            detail = f"internal error {error_id}; the log of gpufn has the details under this id"
            await problems.problem(scope, 500, detail)(scope, receive, send)


class Authentication:
    """Finds out who is calling, and takes the NGC prefix off the path (clients page, section 2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            context: Context = scope["app"].state.context
            header = Headers(scope=scope).get("authorization")
            guest = header is None and context.identity.open_issuer and scope["path"] == ISSUER
            caller = GUEST if guest else await authenticate(context, header)
            scope = {**scope, CALLER: caller, **_without_prefix(scope["path"], caller.nca_id)}
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in PUBLIC or path.startswith(SIGNED)


def _without_prefix(path: str, nca_id: str) -> dict[str, object]:
    """What changes in the scope of a request below ``/v2/orgs/{org}[/teams/{team}]/nvcf``, or another service."""
    found = _PREFIX.fullmatch(path)
    if found is None:
        return {}
    if found["org"] != nca_id:
        raise Forbidden(
            f"org '{found['org'][:64]}' is not the account of this key, which is '{nca_id}'; "
            f"set NGC_CLI_ORG (or the org of your client) to {nca_id}"
        )
    rewritten = _SERVICES[found["service"]].replace("{nca}", nca_id) + found["rest"]
    return {"path": rewritten, "raw_path": rewritten.encode(), problems.ORIGINAL_PATH: path}
