"""``gpufn undeploy``: stop the instances of a function."""

from __future__ import annotations

import argparse

from gpufn.cli import targets
from gpufn.cli.exits import Failed
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.reference import Ambiguous, is_deployed, the_one


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("function", metavar="NAME|ID[:VERSION]", help="what to undeploy")
    parser.add_argument("--graceful", action="store_true", help="first finish what is queued and running")
    api_options(parser)
    output_options(parser)
    parser.set_defaults(run=run)


def run(session: Session) -> int:
    """End the deployment of the one deployed version."""
    args = session.args
    deployed = [v for v in targets.existing(session, args.function) if is_deployed(v)]
    if not deployed:
        raise Failed(f"{args.function} is not deployed", fix="`gpufn function list` shows what is")
    try:
        version = the_one(deployed, args.function, what="deployed versions")
    except Ambiguous as error:
        raise targets.ambiguous(error) from error
    query = {"graceful": "true"} if args.graceful else {}
    answer = session.client.send("DELETE", f"{targets.DEPLOYMENTS}/{targets.path_of(version)}", **query)
    if args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{version['name']}  {answer['function']['status']}")
    return 0
