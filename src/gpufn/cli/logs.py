"""``gpufn logs``: what the instances of a function wrote."""

from __future__ import annotations

import argparse
import json

from gpufn.cli import targets, times
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.errors import ClientError, refusal
from gpufn.client.http import Call
from gpufn.client.reference import newest_deployed

SHOWN = 8
"""Characters of an instance's id that are shown before its lines."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("function", metavar="NAME|ID[:VERSION]", help="whose logs (default: the deployed version)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted or the instances end")
    parser.add_argument("--tail", type=int, metavar="N", help="only the last N lines of each instance")
    parser.add_argument("--instance", metavar="ID", help="only this instance")
    parser.add_argument("--since", type=times.moment, metavar="TIME", help="only what is newer: 10m, 2h, or a moment")
    parser.add_argument("--request", metavar="ID", help="only lines that hold this request id")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print lines as they come; more than one instance: with the beginning of its id."""
    args = session.args
    version = newest_deployed(targets.existing(session, args.function)) or {}
    if args.tail is not None and args.tail < 0:
        raise Failed(f"--tail {args.tail}: less than no line", fix="--tail 100", exit=Exit.USAGE)
    query = _query(session)
    several = not args.instance and len(targets.instances(session, version)) > 1
    path = f"/v2/gpufn/functions/{targets.path_of(version)}/logs"
    with session.client.open(Call("GET", path, params=query, timeout=None if args.follow else 60.0)) as answer:
        if answer.status != 200:
            raise refusal(answer.status, answer.reason, answer.read())
        for line in answer.lines():
            if line.strip():
                _print(session, line, several=several)
    return 0


def _query(session: Session) -> dict[str, str]:
    args = session.args
    wished = {
        "follow": "true" if args.follow else None,
        "tail": None if args.tail is None else str(args.tail),
        "instanceId": args.instance,
        "since": times.wire(args.since) if args.since else None,
        "requestId": args.request,
    }
    return {name: value for name, value in wished.items() if value}


def _print(session: Session, line: str, *, several: bool) -> None:
    if session.args.json:
        session.console.log(line)
        return
    try:
        entry = json.loads(line)
        text, instance = str(entry["text"]), str(entry.get("instanceId", ""))
    except (ValueError, TypeError, KeyError) as error:
        raise ClientError(f"not a log line: {line[:200]!r}", fix="is this a gpufn installation? check --url") from error
    session.console.log(f"{instance[:SHOWN]}  {text}" if several else text)
