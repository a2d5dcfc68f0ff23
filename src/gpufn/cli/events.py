"""``gpufn events``: what happened to functions, deployments and instances, when, and why."""

from __future__ import annotations

import argparse
import time
from typing import Any

from gpufn.cli import targets, times
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options

PATH = "/v2/gpufn/events"
LIMIT_MAX = 1000
INTERVAL = 1.0
"""Seconds between two looks while following."""
SHOWN = 8
"""Characters of an id that are shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "function", metavar="NAME|ID[:VERSION]", nargs="?", help="whose events (default: of everything)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    parser.add_argument("-n", "--limit", type=int, default=50, metavar="N", help="the last N events (default 50)")
    parser.add_argument("--since", type=times.moment, metavar="TIME", help="only what is newer: 10m, 2h, or a moment")
    parser.add_argument("--instance", metavar="ID", help="only of this instance")
    parser.add_argument("--deployment", metavar="ID", help="only of this deployment")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print events, oldest first."""
    args = session.args
    if not 1 <= args.limit <= LIMIT_MAX:
        raise Failed(f"--limit {args.limit}: not from 1 to {LIMIT_MAX}", fix="--limit 100", exit=Exit.USAGE)
    query = _query(session)
    found = _look(session, query)
    if not args.follow:
        if args.json:
            session.console.json({"events": found})
        else:
            session.console.table(("WHEN", "WHAT", "ID", "MESSAGE"), [_row(e) for e in found])
        return 0
    after = 0
    while True:
        for event in found:
            _print(session, event)
            after = int(event["eventId"])
        time.sleep(INTERVAL)
        found = _look(session, query | ({"after": str(after)} if after else {}))


def _query(session: Session) -> dict[str, str]:
    args = session.args
    query = {"limit": str(args.limit)}
    if args.since:
        query["since"] = times.wire(args.since)
    if args.instance:
        query["instanceId"] = args.instance
    if args.deployment:
        query["deploymentId"] = args.deployment
    if args.function:
        versions = targets.existing(session, args.function)
        query["functionId"] = str(versions[0]["id"])
        if ":" in args.function or args.function.lower() == versions[0]["versionId"]:
            query["functionVersionId"] = str(versions[0]["versionId"])
    return query


def _look(session: Session, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.client.get(PATH, **query)["events"]
    return found


def _print(session: Session, event: dict[str, Any]) -> None:
    if session.args.json:
        session.console.json(event)
    else:
        session.console.line("  ".join(_row(event)))


def _row(event: dict[str, Any]) -> tuple[str, str, str, str]:
    subject = event.get("instanceId") or event.get("deploymentId") or event.get("functionVersionId") or ""
    return str(event["at"]), str(event["kind"]), str(subject)[:SHOWN], str(event["message"])
