"""``gpufn invoke``: call a function and print its answer.

The call goes to the function's own URL through ``/v2/nvcf/pexec`` (invocation-plane page, section 4) or, with --path or
--method, straight to a path of the function (direct mode, section 4.5). While it waits, a second thread asks for its
place in the queue. An image of the local catalog that no function uses yet is registered and deployed first.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

from gpufn.cli import definition, deploy, targets
from gpufn.cli.answer import Outcome, show
from gpufn.cli.exits import Exit, Failed, unreadable
from gpufn.cli.functions import find_image
from gpufn.cli.session import Session, api_options, output_options
from gpufn.cli.waiting import Waiting
from gpufn.client.errors import Refused, TooSlow
from gpufn.client.http import Answer, Call
from gpufn.client.reference import Reference, Version, is_deployed, newest_deployed
from gpufn.model.ids import is_uuid, new_id
from gpufn.runtime.clock import monotonic

PEXEC = "/v2/nvcf/pexec/functions"
STATUS = "/v2/nvcf/pexec/status"
POLL_MAX = 3600
"""Largest NVCF-POLL-SECONDS (invocation-plane page, section 5.1)."""
POLL_AGAIN = 60
"""Seconds that one look at a detached call may take."""
MARGIN = 10.0
"""Seconds beyond the window in which the gateway must have said something."""
SETTLE = 5.0
"""Seconds that a deployment of our own may take to reach the gateway."""
BODY_MAX = 64 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("function", metavar="NAME|ID[:VERSION]", help="a function, or an image of the local catalog")
    parser.add_argument("body", nargs="?", default="{}", metavar="BODY|-|@FILE", help="JSON, standard input, or a file")
    parser.add_argument("--stream", action="store_true", help="ask for server-sent events")
    parser.add_argument("--path", help="direct mode: call this path of the function")
    parser.add_argument("--method", help="direct mode: with this method (default: POST)")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="a request header; repeat")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="longest wait (default: 300)")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Find or make the function, call it, print what it answers."""
    args = session.args
    if not 1 <= args.timeout <= 86400:
        raise Failed("--timeout: give 1 to 86400 seconds", fix="--timeout 300", exit=Exit.USAGE)
    body, given = _body(args.body), _headers(args.header)
    deadline = monotonic() + args.timeout
    version, fresh = _target(session, deadline)
    request_id = new_id()
    call = _call(args, version, body, given | {"gpufn-invocation-id": request_id})
    with Waiting(session, request_id, version) as waiting:
        outcome = Outcome(request_id, version, direct=bool(args.path or args.method), began=waiting.began)
        settle = monotonic() + SETTLE if fresh else 0.0
        while True:
            with session.client.open(_windowed(call, deadline)) as answer:
                if answer.status == 404 and not answer.header("nvcf-reqid") and monotonic() < settle:
                    time.sleep(0.05)  # the gateway has not heard of our deployment yet
                    continue
                if answer.status != 202:
                    waiting.stop()
                    return show(session, outcome, answer)
                call = _poll(answer, request_id)
            if monotonic() >= deadline:
                raise TooSlow(
                    f"no result within {args.timeout:g} s; invocation {request_id} still runs", fix="raise --timeout"
                )


def _target(session: Session, deadline: float) -> tuple[Version, bool]:
    """The version to call, and whether it was deployed just now."""
    text = session.args.function
    try:
        found = targets.versions(session, text)
    except Refused as error:
        return _unlisted(Reference.parse(text), error), False
    if not found:
        return _from_catalog(session, deadline), True
    version = newest_deployed(found) or found[0]
    if not is_deployed(version):
        raise Failed(f"{text} is not deployed", fix=f"gpufn deploy {text}")
    if version["status"] == "DEPLOYING":
        deploy.wait_active(session, version, deadline=deadline)
        return version, True
    return version, False


def _unlisted(reference: Reference, error: Refused) -> Version:
    """A key may be allowed to call functions but not to list them: then ids say enough, and names do not."""
    known = is_uuid(reference.function) and (not reference.version or is_uuid(reference.version))
    if error.status != 403 or not known:
        raise error
    return {"id": reference.function.lower(), "versionId": reference.version.lower(), "name": reference.function}


def _from_catalog(session: Session, deadline: float) -> Version:
    """Register and deploy the image that has the name, saying so."""
    text = session.args.function
    image = find_image(session, text)
    if image is None:
        fix = "`gpufn function list` and `gpufn image list` show what there is"
        raise Failed(f"there is no function and no image {text!r}", fix=fix, exit=Exit.NOT_FOUND)
    session.console.note(f"no function is called {text}; registering and deploying the image of that name")
    version: Version = session.client.send("POST", targets.FUNCTIONS, definition.from_image(image))["function"]
    deploy.create(session, version, deploy.specification(session, version, lowest=0, highest=1))
    deploy.wait_active(session, version, deadline=deadline)
    return version


def _call(args: argparse.Namespace, version: Version, body: bytes, headers: dict[str, str]) -> Call:
    pinned = bool(Reference.parse(args.function).version) or version["versionId"] == args.function.lower()
    headers = {"content-type": "application/json", **headers}
    if args.stream:
        headers["accept"] = "text/event-stream"
    if args.path or args.method:
        headers["function-id"] = version["id"]
        if pinned:
            headers["function-version-id"] = version["versionId"]
        path = args.path or "/"
        if not path.startswith("/"):
            raise Failed(f"--path {path}: begins with no slash", fix=f"--path /{path}", exit=Exit.USAGE)
        method = (args.method or "POST").upper()
        return Call(method, path, body=None if method in ("GET", "HEAD") else body, headers=headers)
    target = targets.path_of(version) if pinned else version["id"]
    return Call("POST", f"{PEXEC}/{target}", body=body, headers=headers)


def _poll(answer: Answer, request_id: str) -> Call:
    """How to ask for the result of a call that goes on (invocation-plane page, section 7.4)."""
    answer.read()
    return Call("GET", f"{STATUS}/{answer.header('nvcf-reqid') or request_id}")


def _windowed(call: Call, deadline: float) -> Call:
    left = max(1, math.ceil(deadline - monotonic()))
    window = min(left, POLL_AGAIN if call.path.startswith(STATUS) else POLL_MAX)
    headers = {**(call.headers or {}), "nvcf-poll-seconds": str(window)}
    return Call(call.method, call.path, body=call.body, headers=headers, timeout=window + MARGIN)


def _body(text: str) -> bytes:
    """The request's body: JSON as it was written, a file, or standard input."""
    if text == "-":
        data = sys.stdin.buffer.read(BODY_MAX + 1)
    elif text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                data = file.read(BODY_MAX + 1)
        except (OSError, ValueError) as error:
            cause = f"BODY {text}: {unreadable(error)}"
            raise Failed(cause, fix="give a file that can be read", exit=Exit.USAGE) from error
    else:
        data = _json(text)
    if len(data) > BODY_MAX:
        raise Failed(f"BODY is larger than {BODY_MAX} bytes", fix="send less", exit=Exit.USAGE)
    return data


def _json(text: str) -> bytes:
    try:
        json.loads(text)
        return text.encode()
    except (ValueError, RecursionError) as error:
        fix = """write it like '{"message": "hello"}', or give @file or -"""
        raise Failed(f"BODY is not JSON: {error}", fix=fix, exit=Exit.USAGE) from error


def _headers(given: list[str]) -> dict[str, str]:
    headers = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not text.isascii() or not text.isprintable():
            raise Failed(f"--header {text!r} is no header", fix="write it like --header NAME:VALUE", exit=Exit.USAGE)
        headers[name.strip().lower()] = value.strip()
    return headers
