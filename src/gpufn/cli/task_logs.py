"""``gpufn task logs``: what a task wrote, and with ``-f`` what it writes, attempt by attempt."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session
from gpufn.client.errors import ClientError, refusal
from gpufn.client.http import Call
from gpufn.client.tasks import Task, find

SILENCE_SECONDS = 60.0
"""Longest silence of the server, which says four times as often that it is there."""


def options(parser: argparse.ArgumentParser) -> None:
    """Which lines."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")
    parser.add_argument("--tail", type=int, metavar="N", help="only the last N lines of each attempt")


def run(session: Session) -> int:
    """Print the lines as they come."""
    args = session.args
    if args.tail is not None and args.tail < 0:
        raise Failed(f"--tail {args.tail}: less than no line", fix="--tail 100", exit=Exit.USAGE)
    task = find(session.client, args.task)
    attempt = None
    for line in _lines(session, task, follow=args.follow, tail=args.tail):
        if args.json:
            session.console.log(line)
            continue
        entry = _entry(line)
        if attempt not in (None, entry["instanceId"]):
            session.console.note("the next attempt:")
        attempt = entry["instanceId"]
        session.console.log(entry["text"])
    return 0


def last_lines(session: Session, task: Task, count: int) -> list[str]:
    """The last lines of the newest attempt."""
    kept = [_entry(line) for line in _lines(session, task, follow=False, tail=count)]
    return [entry["text"] for entry in kept if entry["instanceId"] == kept[-1]["instanceId"]]


def _lines(session: Session, task: Task, *, follow: bool, tail: int | None) -> Iterator[str]:
    params = ({"follow": "true"} if follow else {}) | ({} if tail is None else {"tail": str(tail)})
    call = Call("GET", f"/v2/gpufn/tasks/{task['id']}/logs", params=params, timeout=SILENCE_SECONDS)
    with session.client.open(call) as answer:
        if answer.status != 200:
            raise refusal(answer.status, answer.reason, answer.read())
        yield from filter(str.strip, answer.lines())


def _entry(line: str) -> dict[str, str]:
    try:
        entry: dict[str, Any] = json.loads(line)
        return {"instanceId": str(entry.get("instanceId", "")), "text": str(entry["text"])}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ClientError(f"not a log line: {line[:200]!r}", fix="is this a gpufn installation? check --url") from error
