"""``gpufn account``: the accounts of an installation, for who holds a key with scope account_setup."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from gpufn.cli.exits import Exit, Failed
from gpufn.cli.session import Session, api_options, output_options

PATH = "/v2/nvcf/accounts"
BOUNDS = (
    ("--max-functions", "maxFunctionsAllowed", "versions it may have"),
    ("--max-tasks", "maxTasksAllowed", "tasks it may have"),
    ("--max-telemetries", "maxTelemetriesAllowed", "telemetry endpoints it may have"),
    ("--max-registry-credentials", "maxRegistryCredentialsAllowed", "registry credentials it may have"),
)
UNBOUNDED = 2**31 - 1
"""How the API shows that there is no bound."""


def configure(parser: argparse.ArgumentParser) -> None:
    """What one can do with accounts."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    creating = verbs.add_parser("create", help="make an account")
    creating.add_argument("id", metavar="ID", help="its ncaId")
    creating.add_argument("--name", help="for people, 4 to 36 letters, digits, - and _ (default: the id)")
    creating.add_argument("--client", metavar="CLIENT", help="a client whose tokens act for it")
    creating.add_argument("--issuer", metavar="URL", help="whose tokens that client has, if not this installation's")
    listing = verbs.add_parser("list", help="every account")
    getting = verbs.add_parser("get", help="one account")
    updating = verbs.add_parser("update", help="change its name or its bounds")
    updating.add_argument("--name")
    deleting = verbs.add_parser("delete", help="delete an account that has no functions; its keys end")
    token = verbs.add_parser("token", help="print an admin token: NVCF_TOKEN of nvcf-cli")
    for sub in (getting, updating, deleting):
        sub.add_argument("id", metavar="ID")
    for sub in (creating, updating):
        for flag, _, text in BOUNDS:
            sub.add_argument(flag, type=int, metavar="N", help=text)
    runs = (
        (creating, create),
        (listing, list_all),
        (getting, get),
        (updating, update),
        (deleting, delete),
        (token, show),
    )
    for sub, run in runs:
        api_options(sub)
        output_options(sub)
        sub.set_defaults(run=run)


def create(session: Session) -> int:
    """Make an account."""
    args = session.args
    body = {"name": args.name or args.id, **_bounds(args)}
    if args.client:
        body["adminClientId"] = args.client
    if args.issuer:
        body["issuer"] = args.issuer
    answer = session.admin.send("POST", _path(args.id), body)
    if not session.args.json:
        session.console.note(f"make its first key: gpufn keys create --account {args.id}")
    return _show(session, answer)


def list_all(session: Session) -> int:
    """Every account with its bounds."""
    answer = session.admin.get(PATH)
    if session.args.json:
        session.console.json(answer)
        return 0
    session.console.table(
        ("ID", "NAME", "FUNCTIONS", "TASKS", "CLIENTS"), [_row(account) for account in answer["cloudAccounts"]]
    )
    return 0


def get(session: Session) -> int:
    """One account."""
    return _show(session, session.admin.get(_path(session.args.id)))


def update(session: Session) -> int:
    """Change what was given."""
    args = session.args
    body = {"name": args.name, **_bounds(args)} if args.name else _bounds(args)
    if not body:
        raise Failed("nothing to change", fix="see `gpufn account update --help`", exit=Exit.USAGE)
    return _show(session, session.admin.send("PATCH", _path(args.id), body))


def delete(session: Session) -> int:
    """Delete an account."""
    session.admin.send("DELETE", _path(session.args.id))
    if session.args.json:
        session.console.json({"deleted": session.args.id})
    else:
        session.console.line(f"deleted {session.args.id}")
    return 0


def show(session: Session) -> int:
    """Print a fresh admin token, alone, so that a shell can keep it."""
    answer = session.client.send("POST", "/v1/admin/keys", {})
    if session.args.json:
        session.console.json(answer)
        return 0
    session.console.line(answer["value"])
    session.console.note(f"expires at {answer['expires_at']}")
    return 0


def _path(nca_id: str) -> str:
    return f"{PATH}/{quote(nca_id, safe='')}"


def _bounds(args: argparse.Namespace) -> dict[str, Any]:
    given = ((name, getattr(args, flag[2:].replace("-", "_"))) for flag, name, _ in BOUNDS)
    return {name: value for name, value in given if value is not None}


def _show(session: Session, answer: dict[str, Any]) -> int:
    if session.args.json:
        session.console.json(answer)
        return 0
    for name, value in answer["account"].items():
        session.console.line(f"{name:34}{' '.join(value) if isinstance(value, list) else _number(value)}")
    return 0


def _row(account: dict[str, Any]) -> tuple[str, ...]:
    clients = " ".join(account.get("adminClientIds") or ())
    bounds = (_number(account[name]) for name in ("maxFunctionsAllowed", "maxTasksAllowed"))
    return (account["ncaId"], account["name"], *bounds, clients)


def _number(value: object) -> str:
    return "any" if value == UNBOUNDED else str(value)
