"""``gpufn function``: definitions of functions."""

from __future__ import annotations

import argparse
from typing import Any

from gpufn.cli import definition, sharing, targets
from gpufn.cli.exits import Exit, Failed
from gpufn.cli.images import catalog
from gpufn.cli.session import Session, api_options, output_options
from gpufn.client.errors import Refused
from gpufn.client.reference import Version, newest_deployed
from gpufn.compute.images import Image


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with functions."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    creating = verbs.add_parser("create", help="register a function, or another version of one")
    definition.options(creating)
    listing = verbs.add_parser("list", help="every version of every function")
    getting = verbs.add_parser("get", help="one version and its deployment")
    getting.add_argument("function", metavar="NAME|ID[:VERSION]")
    deleting = verbs.add_parser("delete", help="delete a version, and its deployment with it")
    deleting.add_argument("function", metavar="NAME|ID[:VERSION]")
    deleting.add_argument("--all", action="store_true", help="every version of the function")
    runs = [(creating, create), (listing, list_all), (getting, get), (deleting, delete), *sharing.configure(verbs)]
    for sub, run in runs:
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def create(session: Session) -> int:
    """Register a function or, with --version-of, a version."""
    args = session.args
    body = definition.body(args, lambda reference: find_image(session, reference))
    path = targets.FUNCTIONS
    if args.version_of:
        path += f"/{targets.existing(session, args.version_of)[0]['id']}/versions"
    elif isinstance(body.get("name"), str) and targets.versions(session, body["name"]):
        raise Failed(
            f"there is a function {body['name']!r} already",
            fix=f"add `--version-of {body['name']}` to make a version of it, or take another name",
        )
    answer = session.client.send("POST", path, body)
    if args.json:
        session.console.json(answer)
        return 0
    function = answer["function"]
    session.console.line(f"{function['name']}  {function['id']}:{function['versionId']}  {function['status']}")
    session.console.note(f"deploy it: gpufn deploy {function['name']}")
    return 0


def find_image(session: Session, reference: str) -> Image | None:
    """An image of the local catalog, or None."""
    try:
        return catalog(session).find(reference)
    except OSError:
        return None


def list_all(session: Session) -> int:
    """Every version of every function."""
    answer = session.client.get(targets.FUNCTIONS)
    if session.args.json:
        session.console.json(answer)
        return 0
    rows = [(f["name"], f["id"], f["versionId"], f["status"], _image(f)) for f in answer["functions"]]
    session.console.table(("NAME", "ID", "VERSION", "STATUS", "IMAGE"), sorted(rows))
    return 0


def get(session: Session) -> int:
    """One version with its deployment, if it has one."""
    found = newest_deployed(targets.existing(session, session.args.function))
    version = session.client.get(f"{targets.FUNCTIONS}/{targets.path_of(found or {})}")
    if session.args.json:
        session.console.json(version)
        return 0
    for name, value in version["function"].items():
        session.console.line(f"{name:24}{_text(value)}")
    for spec in _specifications(session, version["function"]):
        bounds = f"{spec['minInstances']} to {spec['maxInstances']} instances"
        session.console.line(f"{'deployed on':24}{spec['gpu']} ({spec['instanceType']}), {bounds}")
    return 0


def delete(session: Session) -> int:
    """Delete one version, or with --all every one."""
    args = session.args
    found = targets.existing(session, args.function)
    if len(found) > 1 and not args.all:
        choices = ", ".join(f"{args.function}:{v['versionId']}" for v in found)
        fix = f"say which ({choices}), or --all"
        raise Failed(f"{args.function!r} has {len(found)} versions", fix=fix, exit=Exit.USAGE)
    for version in found:
        session.client.send("DELETE", f"{targets.FUNCTIONS}/{targets.path_of(version)}")
    ids = [{"id": v["id"], "versionId": v["versionId"]} for v in found]
    if args.json:
        session.console.json({"deleted": ids})
    else:
        for version in found:
            session.console.line(f"deleted {version['name']}  {version['id']}:{version['versionId']}")
    return 0


def _specifications(session: Session, version: Version) -> list[dict[str, Any]]:
    try:
        answer = session.client.get(f"{targets.DEPLOYMENTS}/{targets.path_of(version)}")
    except Refused as error:
        if error.status == 404:
            return []
        raise
    specs: list[dict[str, Any]] = answer["deployment"]["deploymentSpecifications"]
    return specs


def _image(function: Version) -> str:
    if function.get("ownedByDifferentAccount"):
        return f"(of {function['ncaId']})"
    return str(function.get("containerImage") or function.get("helmChart") or "")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "; ".join(_text(v) for v in value)
    return str(value)
