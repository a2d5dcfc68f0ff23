"""``gpufn logs``: what the instances of a function wrote."""

from __future__ import annotations

import argparse
import json

from gpufn.cli import targets
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
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """Print lines as they come; more than one instance: with the beginning of its id."""
    args = session.args
    version = newest_deployed(targets.existing(session, args.function)) or {}
    if args.tail is not None and args.tail < 0:
        raise Failed(f"--tail {args.tail}: less than no line", fix="--tail 100", exit=Exit.USAGE)
    query = {"follow": "true"} if args.follow else {}
    if args.tail is not None:
        query["tail"] = str(args.tail)
    if args.instance:
        query["instanceId"] = args.instance
    several = not args.instance and len(targets.instances(session, version)) > 1
    path = f"/v2/gpufn/functions/{targets.path_of(version)}/logs"
    with session.client.open(Call("GET", path, params=query, timeout=None if args.follow else 60.0)) as answer:
        if answer.status != 200:
            raise refusal(answer.status, answer.reason, answer.read())
        for line in answer.lines():
            if line.strip():
                _print(session, line, several=several)
    return 0


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
