"""``gpufn secrets``: secrets of functions. A value never stands on the command line, where others could read it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gpufn.cli import targets
from gpufn.cli.exits import Exit, Failed, unreadable
from gpufn.cli.session import Session, api_options, output_options


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with secrets."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    setting = verbs.add_parser("set", help="add or overwrite a secret; its value comes from standard input or a file")
    setting.add_argument("function", metavar="NAME|ID[:VERSION]", help="whose it is (default version: the newest)")
    setting.add_argument("name", metavar="SECRET", help="its name")
    setting.add_argument("--file", type=Path, metavar="FILE", help="read the value from here (default: stdin)")
    setting.add_argument("--object", action="store_true", help="the value is a JSON object, not text")
    listing = verbs.add_parser("list", help="the names of a function's secrets, never their values")
    listing.add_argument("function", metavar="NAME|ID[:VERSION]", help="whose they are")
    rotating = verbs.add_parser("rotate", help="put every secret under a new master key")
    for sub, run in ((setting, set_one), (listing, list_names), (rotating, rotate)):
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def set_one(session: Session) -> int:
    """Add or overwrite one secret of a version."""
    args = session.args
    version = targets.existing(session, args.function)[0]
    value = value_of(args.file, is_object=args.object)
    path = f"/v2/nvcf/secrets/functions/{targets.path_of(version)}"
    session.client.send("PUT", path, {"secrets": [{"name": args.name, "value": value}]})
    if args.json:
        session.console.json({"functionId": version["id"], "versionId": version["versionId"], "secret": args.name})
    else:
        session.console.line(f"{version['name']}  {args.name} is set")
    return 0


def value_of(file: Path | None, *, is_object: bool = False) -> Any:
    """A secret's value, out of a file or of standard input; without the line end that editors add."""
    try:
        text = (sys.stdin.read() if file is None else file.read_text()).removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"the value cannot be read: {unreadable(error)}", exit=Exit.USAGE) from error
    if not is_object:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failed(f"the value is not JSON: {error}", fix="leave --object out for text", exit=Exit.USAGE) from error


def list_names(session: Session) -> int:
    """The names of the newest version's secrets."""
    version = targets.current(session, targets.existing(session, session.args.function)[0])
    names = version.get("secrets", [])
    if session.args.json:
        session.console.json({"secrets": names})
    else:
        for name in names:
            session.console.line(name)
    return 0


def rotate(session: Session) -> int:
    """A new master key. Nothing has to stop for it."""
    answer = session.client.send("POST", "/v2/gpufn/master-key/rotate")
    if session.args.json:
        session.console.json(answer)
    else:
        session.console.line(f"{answer['secrets']} secrets are under master key {answer['masterKeyId']}")
    return 0
