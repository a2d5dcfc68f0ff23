"""``gpufn why``: why a function, a deployment, an instance, a request or a task is as it is."""

from __future__ import annotations

import argparse
from typing import Any

from gpufn.cli import targets
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.errors import Refused
from gpufn.client.reference import newest_deployed
from gpufn.client.tasks import find
from gpufn.model.ids import is_uuid

PATH = "/v2/gpufn/why"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "thing",
        metavar="NAME|ID[:VERSION]",
        help="a function or a task, or the id of a deployment, instance or request",
    )
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """One sentence; then the facts, what happened, and what was logged."""
    answer = session.client.get(f"{PATH}/{_subject(session)}")
    if session.args.json:
        session.console.json(answer)
    else:
        _print(session, answer)
    return 0


def _subject(session: Session) -> str:
    """An id is asked for as it is, as it may be anything's; a name is a function's, or else a task's."""
    thing: str = session.args.thing
    if is_uuid(thing):
        return thing.lower()
    found = newest_deployed(targets.versions(session, thing))
    if found is not None:
        return f"function/{found['versionId']}"
    try:
        return f"task/{find(session.client, thing)['id']}"
    except Refused as error:
        if error.status != 404:
            raise
        fix = "`gpufn function list` and `gpufn task list` show what there is"
        raise Failed(f"there is no function and no task {thing!r}", fix=fix, exit=Exit.NOT_FOUND) from error


def _print(session: Session, answer: dict[str, Any]) -> None:
    console = session.console
    console.line(str(answer["sentence"]))
    facts = [(str(f["name"]), str(f["value"])) for f in answer.get("facts", ())]
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        console.line(f"  {name:<{width}}  {value}")
    if answer.get("events"):
        console.line("what happened:")
        for event in answer["events"]:
            console.line(f"  {event['at']}  {event['kind']}  {event['message']}")
    if answer.get("log"):
        console.line("last lines of its log:")
        for text in answer["log"]:
            console.line(f"  {text}")
