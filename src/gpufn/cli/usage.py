"""``gpufn usage``: GPU seconds, those of them idle, and requests."""

from __future__ import annotations

import argparse
from typing import Any

from gpufn.cli import targets, times
from gpufn.cli.session import Session, api_options, output_options

PATH = "/v2/gpufn/usage"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("function", metavar="NAME|ID", nargs="?", help="of one function (default: of all)")
    parser.add_argument("--since", type=times.moment, metavar="TIME", help="12h, 7d or a moment (default: 30 days)")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """One row for each version, and the sum."""
    args = session.args
    query = {"since": times.wire(args.since)} if args.since else {}
    if args.function:
        query["functionId"] = str(targets.existing(session, args.function)[0]["id"])
    answer = session.client.get(PATH, **query)
    if args.json:
        session.console.json(answer)
        return 0
    names = {v["versionId"]: str(v["name"]) for v in session.client.get(targets.FUNCTIONS)["functions"]}
    rows = [
        (names.get(v["functionVersionId"], "(deleted)"), str(v["functionVersionId"]), *_sums(v["usage"]))
        for v in answer["versions"]
    ]
    head = ("FUNCTION", "VERSION", "INSTANCE s", "GPU s", "IDLE GPU s", "REQUESTS")
    session.console.table(head, [*rows, ("total", "", *_sums(answer["total"]))])
    idle = float(answer["total"]["idleGpuSeconds"])
    if idle > 0:
        session.console.note(f"scaling to zero would have saved up to {idle:.0f} GPU seconds")
    return 0


def _sums(usage: dict[str, Any]) -> tuple[str, str, str, str]:
    seconds = (f"{float(usage[name]):.0f}" for name in ("instanceSeconds", "gpuSeconds", "idleGpuSeconds"))
    return (*seconds, str(usage["requests"]))  # type: ignore[return-value]
