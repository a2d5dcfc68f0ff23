"""``gpufn exec``: run a command beside an instance."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gpufn.cli import targets
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.http import Call
from gpufn.client.reference import newest_deployed
from gpufn.model.ids import is_uuid

SECONDS_MAX = 300
"""Longest a command may take."""
PATIENCE = 30.0
"""Seconds that the answer may take beyond the command."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "target", metavar="NAME|ID[:VERSION]", help="a function (its oldest ready instance) or an instance's id"
    )
    parser.add_argument("words", metavar="COMMAND", nargs="+", help="the program and its arguments, after --")
    parser.add_argument("--timeout", type=int, default=60, metavar="SECONDS", help="longest run, 1 to 300 (default 60)")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print what the command wrote; its exit code is ours."""
    args = session.args
    if not 1 <= args.timeout <= SECONDS_MAX:
        raise Failed(f"--timeout {args.timeout}: not from 1 to {SECONDS_MAX}", fix="--timeout 60", exit=Exit.USAGE)
    instance = _instance(session, args.target)
    answer = _send(session, instance, {"command": args.words, "timeoutSeconds": args.timeout})
    if args.json:
        session.console.json(answer)
    else:
        session.console.raw(str(answer["output"]).encode())
    if answer["truncated"]:
        session.console.note("the output was longer; only its beginning was kept")
    if answer["timedOut"]:
        raise Failed(f"the command took more than {args.timeout} s", fix="raise --timeout", exit=Exit.TIMEOUT)
    return int(answer["exitCode"])


def _send(session: Session, instance: str, body: dict[str, Any]) -> dict[str, Any]:
    call = Call(
        "POST",
        f"/v2/gpufn/instances/{instance}/exec",
        body=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        timeout=body["timeoutSeconds"] + PATIENCE,
    )
    answer: dict[str, Any] = session.client.call(call)
    return answer


def _instance(session: Session, target: str) -> str:
    """The instance that is meant: of a function the oldest that is ready."""
    versions = targets.versions(session, target)
    if not versions:
        if is_uuid(target):
            return target.lower()
        targets.existing(session, target)
    version = newest_deployed(versions) or {}
    ready = [i for i in targets.instances(session, version) if str(i.get("status")) == "ready"]
    if not ready:
        raise Failed(f"{target} has no ready instance", fix=f"`gpufn why {target}` says what is missing")
    return str(ready[0]["instanceId"])
